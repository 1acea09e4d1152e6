"""What is measured of a running broker, and how."""

import dataclasses
import json
import os
import subprocess
import threading
import time
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import first
from harness import processes

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
GB = 1e9
ROW_PARTITIONS = 4


@dataclasses.dataclass(frozen=True)
class Size:
    """How much of everything; every load also ends after `seconds`."""

    warm_up_records: int
    cold_records: int
    records: int
    single_records: int
    paced_seconds: int
    idle_seconds: int
    rows: int
    seconds: int


FULL = Size(warm_up_records=4_000_000, cold_records=250_000, records=1_000_000, single_records=100_000, paced_seconds=20, idle_seconds=15,
            rows=2_000_000, seconds=60)
QUICK = Size(warm_up_records=400_000, cold_records=100_000, records=200_000, single_records=30_000, paced_seconds=5, idle_seconds=4,
             rows=400_000, seconds=20)

BIDS = ("CREATE STREAM bids (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, ts TIMESTAMP(3), sent BIGINT, "
        "WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH (topic = '{topic}', format = 'json')")
FILTER = "SELECT auction, bidder, price, sent FROM {stream} WHERE price < 1000"
COUNT = ("SELECT auction, window_start, window_end, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE {stream}, DESCRIPTOR(ts), INTERVAL '10' SECOND)) "
         "GROUP BY auction, window_start, window_end")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def resident_mb(pid: int) -> float:
    """Resident memory of a process, mapped files included."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES / 1e6


class PeakMemory:
    """Samples the resident memory of a process while it is entered."""

    def __init__(self, pid):
        self.pid, self.peak_mb, self.running = pid, 0.0, True

    def __enter__(self):
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self

    def _run(self):
        while self.running:
            self.peak_mb = max(self.peak_mb, resident_mb(self.pid))
            time.sleep(0.05)

    def __exit__(self, *_):
        self.running = False
        self.thread.join()


class Bench:
    """One broker under measurement."""

    def __init__(self, broker, size, load, measured):
        self.broker, self.size, self.load, self.measured = broker, size, load, measured
        self.topics = 0

    def note(self, name, value):
        """Keeps and shows one figure."""
        self.measured[name] = value
        print(f"  {name}: {value:.4g}", flush=True)

    def topic(self, partitions) -> str:
        """A fresh topic."""
        self.topics += 1
        name = f"bench_{self.topics}"
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap, "log_level": 0})
        admin.create_topics([NewTopic(name, partitions, 1)])[name].result(30)
        time.sleep(0.2)
        return name

    def drop(self, *topics):
        """Deletes topics, so that the disk does not fill up."""
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap, "log_level": 0})
        for deleted in admin.delete_topics(list(topics)).values():
            deleted.result(30)

    def run(self, mode, topic, **settings):
        """Runs the load; returns what it printed, with the broker's processor seconds."""
        before = cpu_seconds(self.broker.pid)
        # Bounded from outside too, in case a broker answers nothing at all.
        done = subprocess.run([str(self.load), mode, self.broker.bootstrap, topic, *[f"{name}={value}" for name, value in settings.items()]],
                              capture_output=True, text=True, timeout=self.size.seconds + 180)
        if done.returncode != 0:
            raise processes.CommandFailed(f"rdkafka_load {mode} {settings}: {done.stderr.strip()[-500:]}")
        result = json.loads(done.stdout)
        result["cpu"] = cpu_seconds(self.broker.pid) - before
        result["cpu_per_gb"] = result["cpu"] / max(result["bytes"] / GB, 1e-9)
        result["mb_a_second"] = result["bytes"] / 1e6 / result["seconds"]
        return result

    def produce(self, topic, partitions=1, **settings):
        """1 KB records in batches."""
        return self.run("produce", topic, **{"count": self.size.records, "seconds": self.size.seconds, "partitions": partitions, **settings})


def measure(broker, size, load, measured):
    """The whole list, into `measured` as it goes, so that a failure leaves what came before."""
    bench = Bench(broker, size, load, measured)
    start(bench)
    if broker.name == "kafka":
        cold_then_warm(bench)
    produced_and_consumed(bench)
    paced(bench)
    if broker.name == "millpond":
        streams(bench)


def start(bench):
    """From the start of the process to the first acknowledged record; then what it takes when nothing happens."""
    broker = bench.broker
    broker.start()  # the very first start formats or creates the folder
    time.sleep(1)
    broker.stop()
    seconds = first.first_acknowledgement(broker)
    bench.note("first_ack_seconds", seconds)
    bench.note("first_ack_cpu", cpu_seconds(broker.pid))
    time.sleep(2 if broker.name == "millpond" else 5)
    before = cpu_seconds(broker.pid)
    time.sleep(bench.size.idle_seconds)
    bench.note("idle_cpu_percent", 100 * (cpu_seconds(broker.pid) - before) / bench.size.idle_seconds)
    bench.note("idle_mb", resident_mb(broker.pid))


def cold_then_warm(bench):
    """The first records that a fresh JVM sees, then enough of everything to have it compiled."""
    topic = bench.topic(1)
    cold = bench.produce(topic, batch=65536, count=bench.size.cold_records)
    bench.note("cold_produce_64k_cpu_per_gb", cold["cpu_per_gb"])
    bench.note("cold_consume_cpu_per_gb", bench.run("consume", topic, count=cold["records"], seconds=bench.size.seconds)["cpu_per_gb"])
    bench.drop(topic)
    topic = bench.topic(16)
    warm = bench.produce(topic, partitions=16, batch=65536, count=bench.size.warm_up_records)
    bench.run("consume", topic, count=warm["records"], seconds=bench.size.seconds)
    bench.drop(topic)
    topic = bench.topic(1)
    bench.produce(topic, batch=16384)
    bench.produce(topic, batch=65536, codec="lz4")
    bench.produce(topic, batch=1, count=bench.size.single_records, rate=10_000)
    bench.drop(topic)


def produced_and_consumed(bench):
    """Processor seconds a GB and throughput, by batch size, partitions and compression."""
    with PeakMemory(bench.broker.pid) as memory:
        for partitions in (1, 16):
            for codec in ("none", "lz4"):
                for batch, label in ((65536, "64k"), (16384, "16k")):
                    topic = bench.topic(partitions)
                    name = f"{label}_{partitions}p_{codec}"
                    made = bench.produce(topic, partitions, batch=batch, codec=codec)
                    bench.note(f"produce_{name}_cpu_per_gb", made["cpu_per_gb"])
                    bench.note(f"produce_{name}_mb_a_second", made["mb_a_second"])
                    if label == "64k":
                        read = bench.run("consume", topic, count=made["records"], seconds=bench.size.seconds)
                        bench.note(f"consume_{name}_cpu_per_gb", read["cpu_per_gb"])
                        bench.note(f"consume_{name}_mb_a_second", read["mb_a_second"])
                    bench.drop(topic)
            topic = bench.topic(partitions)
            single = bench.produce(topic, partitions, batch=1, count=bench.size.single_records, rate=10_000)
            bench.note(f"single_{partitions}p_cpu_per_million", single["cpu"] / single["records"] * 1e6)
            bench.note(f"single_{partitions}p_a_second", single["records"] / single["seconds"])
            bench.drop(topic)
    bench.note("load_mb", memory.peak_mb)


def paced(bench):
    """10,000 records a second: latency and processor."""
    topic = bench.topic(1)
    bench.run("paced", topic, rate=10_000, seconds=2, linger=0)  # connections, and Kafka's compiler
    made = bench.run("paced", topic, rate=10_000, seconds=bench.size.paced_seconds, linger=0)
    for what in ("produce_ms", "end_to_end_ms"):
        for percentile in ("p50", "p99", "p999"):
            bench.note(f"paced_{what}_{percentile}", made[what][percentile])
    bench.note("paced_cpu_per_gb", made["cpu_per_gb"])
    bench.drop(topic)


def statement(bench, sql):
    """Produces a statement to the admin topic and waits for its acceptance."""
    errors = []
    client = Producer({"bootstrap.servers": bench.broker.bootstrap, "acks": "all", "message.timeout.ms": 30000, "log_level": 0})
    client.produce("_millpond_sql", sql, on_delivery=lambda error, _: errors.append(str(error)) if error else None)
    if client.flush(40) or errors:
        raise processes.CommandFailed(f"the statement was not accepted: {errors}: {sql}")


def wait_for_rows(bench, topic, expected):
    """Waits until an output topic holds `expected` records; returns how many it holds."""
    reader = Consumer({"bootstrap.servers": bench.broker.bootstrap, "group.id": "bench-watch", "log_level": 0})
    try:
        deadline, held = time.monotonic() + bench.size.seconds, 0
        partitions = list(reader.list_topics(topic, 20).topics[topic].partitions)
        while held < expected:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic} holds {held} of {expected} rows after {bench.size.seconds} s")
            held = sum(reader.get_watermark_offsets(TopicPartition(topic, partition), 10)[1] for partition in partitions)
            time.sleep(0.01)
        return held
    finally:
        reader.close()


def streams(bench):
    """Rows a second of a filter and of a tumbling count over a full topic, then the time from record to result."""
    topic, rows = bench.topic(ROW_PARTITIONS), bench.size.rows // 10_000 * 10_000
    bench.run("rows", topic, count=rows, partitions=ROW_PARTITIONS)
    # One row an hour later in each partition closes every window.
    bench.run("rows", topic, count=ROW_PARTITIONS, first=rows + 3_600_000, partitions=ROW_PARTITIONS, batch=1)
    statement(bench, BIDS.format(topic=topic))
    # price = 31 n mod 10000: one row in ten passes. Every window of 10,000 rows has each of the 997 auctions.
    for name, query, expected in (("filter", FILTER, rows // 10), ("count", COUNT, rows // 10_000 * 997)):
        before, began = cpu_seconds(bench.broker.pid), time.monotonic()
        with PeakMemory(bench.broker.pid) as memory:
            statement(bench, f"CREATE MATERIALIZED STREAM bench_{name} AS {query.format(stream='bids')}")
            wait_for_rows(bench, f"bench_{name}", expected)
        taken, cpu = time.monotonic() - began, cpu_seconds(bench.broker.pid) - before
        bench.note(f"stream_{name}_rows_a_second", rows / taken)
        bench.note(f"stream_{name}_rows_a_cpu_second", rows / max(cpu, 0.01))
        bench.note(f"stream_{name}_mb", memory.peak_mb)
        statement(bench, f"DROP STREAM bench_{name}")
    topic = bench.topic(1)
    statement(bench, BIDS.replace("STREAM bids", "STREAM live").format(topic=topic))
    statement(bench, f"CREATE MATERIALIZED STREAM bench_live AS {FILTER.format(stream='live')}")
    time.sleep(1)
    made = bench.run("paced", topic, rate=10_000, seconds=bench.size.paced_seconds, linger=0, out="bench_live")
    for percentile in ("p50", "p99", "p999"):
        bench.note(f"stream_latency_ms_{percentile}", made["end_to_end_ms"][percentile])
    bench.note("stream_live_cpu_percent", 100 * made["cpu"] / made["seconds"])

"""Millpond against the machine's own limits and against itself: bench/run --limits. Written to bench/limits.md.

Every figure is a ratio of two things that were measured in the same round, one right after the other.
"""

import datetime
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import measures
import table
from harness import brokers, paths, processes

RESULTS = Path(__file__).resolve().parent / "limits.md"
MANY = 10_000
CREATED_AT_ONCE = 1_000
READERS = 100


class Limits:
    """One node, and the tools beside it."""

    def __init__(self, folder, load, quick):
        self.folder, self.load, self.quick = folder, load, quick
        self.examples = paths.millpond_binary().parent / "examples"
        self.broker = brokers.Millpond(folder / "node", settings=["log.retention.check.interval.ms=3600000", "log.segment.delete.delay.ms=0"])
        self.measured = {}

    def note(self, name, value):
        """Keeps and shows one figure."""
        self.measured[name] = value
        print(f"  {name}: {value:.4g}", flush=True)

    def topic(self, name, partitions=1):
        """A fresh topic."""
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap, "log_level": 0})
        admin.create_topics([NewTopic(name, partitions, 1)], request_timeout=120, operation_timeout=120)[name].result(120)
        time.sleep(0.2)
        return name

    def drop(self, name):
        """Deletes a topic, so that the disk does not fill up."""
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap, "log_level": 0})
        admin.delete_topics([name])[name].result(60)

    def run(self, tool, *arguments, seconds=300):
        """Runs one of the tools; gives what its last line says, and the node's processor seconds meanwhile."""
        before = measures.cpu_seconds(self.broker.pid)
        done = subprocess.run([str(tool), *map(str, arguments)], capture_output=True, text=True, timeout=seconds)
        if done.returncode != 0:
            raise processes.CommandFailed(f"{tool} {arguments}: {done.stderr.strip()[-500:]}")
        result = json.loads(done.stdout.splitlines()[-1])
        result["node_cpu"] = measures.cpu_seconds(self.broker.pid) - before
        return result

    def closed_loop(self, topic, **settings):
        """Producers that wait for each answer."""
        settings = {"seconds": 3 if self.quick else 10, "folder": self.folder, **settings}
        return self.run(self.examples / "closed_loop", self.broker.bootstrap, topic, *[f"{name}={value}" for name, value in settings.items()])


def measure(limits):
    """The whole list."""
    limits.broker.start()
    raw_limit(limits)
    group_commit(limits)
    tail_readers(limits)
    catching_up(limits)
    killed_with_much(limits)
    many_partitions(limits)


def raw_limit(limits):
    """The same 64 KB batches through the node, and through a program that receives, checks and writes them; of each five rounds in a row,
    and the best: on a virtual machine memory that was not used before costs several times the rest, and each round frees its own."""
    rounds = 1 if limits.quick else 5
    raw, node = [raw_program(limits) for _ in range(rounds)], []
    for number in range(rounds):
        megabytes = 300 if limits.quick else 1_000
        topic = limits.topic(f"raw-{number}")
        made = limits.run(limits.load, "produce", limits.broker.bootstrap, topic, "batch=65536", f"count={megabytes * 1000}", "seconds=120", "partitions=1")
        limits.drop(topic)
        time.sleep(3)
        node.append(made["bytes"] / 1e6 / made["node_cpu"])
    limits.note("raw_mb_a_cpu_second", max(raw))
    limits.note("produce_mb_a_cpu_second", max(node))
    limits.note("produce_of_raw", max(node) / max(raw))


def raw_program(limits) -> float:
    """MB a processor second of the program that does nothing else."""
    megabytes = 300 if limits.quick else 1_000
    tool, file = limits.examples / "raw_limit", limits.folder / "raw"
    server = subprocess.Popen([str(tool), "serve", str(file)], stdout=subprocess.PIPE, text=True)
    address = server.stdout.readline().strip()
    subprocess.run([str(tool), "send", address, "65536", str(megabytes)], check=True, timeout=300)
    raw = json.loads(server.stdout.readline())
    server.wait(30)
    file.unlink()
    os.sync()
    return raw["bytes"] / 1e6 / raw["cpu"]


def group_commit(limits):
    """64 producers of single records of 1 KB against one; each waits until its record is durable."""
    topic = limits.topic("group")
    one = limits.closed_loop(topic, connections=1)
    many = limits.closed_loop(topic, connections=64)
    limits.drop(topic)
    limits.note("one_producer_a_second", one["requests"] / one["seconds"])
    limits.note("64_producers_a_second", many["requests"] / many["seconds"])
    limits.note("group_commit_factor", many["requests"] / many["seconds"] * one["seconds"] / one["requests"])
    limits.note("group_commit_p99_ms", many["p99_ms"])
    limits.note("fdatasync_ms", many["fdatasync_p50_ms"])
    limits.note("fdatasync_p99_ms", many["fdatasync_p99_ms"])
    limits.note("group_commit_p99_of_fdatasync", many["p99_ms"] / many["fdatasync_p50_ms"])


def file_reads(pid):
    """Calls of the node that read from files so far; what is received from sockets is not among them."""
    return int(next(line.split()[1] for line in Path(f"/proc/{pid}/io").read_text().splitlines() if line.startswith("syscr")))


def tail_readers(limits):
    """A paced producer with one consumer, and with a hundred."""
    topic = limits.topic("tail")
    seconds = 4 if limits.quick else 10
    figures = {}
    for count in (1, READERS):
        readers = [Consumer({"bootstrap.servers": limits.broker.bootstrap, "group.id": f"tail-{number}", "log_level": 0, "enable.auto.commit": False,
                             "fetch.wait.max.ms": 500}) for number in range(count)]
        end = readers[0].get_watermark_offsets(TopicPartition(topic, 0), 20)[1]
        for reader in readers:
            reader.assign([TopicPartition(topic, 0, end)])
        running, received = True, [0] * count

        def read(number, reader):
            while running:
                received[number] += len(reader.consume(1000, 0.1))

        threads = [threading.Thread(target=read, args=pair, daemon=True) for pair in enumerate(readers)]
        for thread in threads:
            thread.start()
        time.sleep(2)
        before = file_reads(limits.broker.pid)
        made = limits.run(limits.load, "paced", limits.broker.bootstrap, topic, "rate=1000", f"seconds={seconds}", "linger=5")
        reads = file_reads(limits.broker.pid) - before
        time.sleep(1)
        running = False
        for thread in threads:
            thread.join()
        for reader in readers:
            reader.close()
        if min(received) < made["records"] * 0.9:
            raise ValueError(f"a reader got {min(received)} of {made['records']} records")
        figures[count] = (reads, made["node_cpu"] / made["seconds"])
    limits.drop(topic)
    limits.note("file_reads_a_reader", (figures[READERS][0] - figures[1][0]) / (READERS - 1))
    for count, (reads, cpu) in figures.items():
        limits.note(f"file_reads_with_{count}_readers", reads)
        limits.note(f"cpu_percent_with_{count}_readers", 100 * cpu)


def catching_up(limits):
    """Latency of a paced producer, alone and while others read what is old at full speed. The reader's own process gives way to the
    others: what it takes from the producer's is not the node's doing."""
    old, live = limits.topic("old", 4), limits.topic("live")
    gigabytes = 0.3 if limits.quick else 4
    count = int(gigabytes * 1e6)
    limits.run(limits.load, "produce", limits.broker.bootstrap, old, "batch=65536", f"count={count}", "seconds=180", "partitions=4")
    seconds = 4 if limits.quick else 15
    paced = ["paced", limits.broker.bootstrap, live, "rate=2000", f"seconds={seconds}", "linger=0"]
    limits.run(limits.load, *paced)
    alone = limits.run(limits.load, *paced)
    running, read = True, []

    def catch_up():
        while running:
            done = subprocess.run(["nice", "-n", "19", str(limits.load), "consume", limits.broker.bootstrap, old, f"count={count}", "seconds=60"], capture_output=True, text=True)
            if done.returncode == 0:
                read.append(json.loads(done.stdout)["bytes"])

    thread = threading.Thread(target=catch_up, daemon=True)
    thread.start()
    time.sleep(1)
    beside = limits.run(limits.load, *paced)
    running = False
    thread.join()
    limits.drop(old)
    limits.drop(live)
    limits.note("produce_p99_ms_alone", alone["produce_ms"]["p99"])
    limits.note("produce_p99_ms_beside", beside["produce_ms"]["p99"])
    limits.note("produce_p99_factor", beside["produce_ms"]["p99"] / alone["produce_ms"]["p99"])
    limits.note("caught_up_gb", sum(read) / 1e9)


def killed_with_much(limits):
    """A start after SIGKILL with much log: what it takes, and what it reads."""
    gigabytes = 1 if limits.quick else 10
    limits.broker.stop()
    limits.broker.settings.append("log.flush.offset.checkpoint.interval.ms=2000")
    limits.broker.start()
    topic = limits.topic("much", 4)
    limits.run(limits.load, "produce", limits.broker.bootstrap, topic, "batch=65536", f"count={gigabytes * 1_000_000}", "seconds=280", "partitions=4", seconds=320)
    time.sleep(5)
    limits.run(limits.load, "produce", limits.broker.bootstrap, topic, "batch=65536", "count=2000", "seconds=60", "partitions=4")
    limits.broker.kill()
    began = time.monotonic()
    limits.broker.start()
    limits.note("killed_start_seconds", time.monotonic() - began)
    lines = dict(line.split(": ") for line in Path(f"/proc/{limits.broker.pid}/io").read_text().splitlines())
    limits.note("killed_log_gb", gigabytes)
    limits.note("killed_read_mb", int(lines["rchar"]) / 1e6)
    limits.drop(topic)
    limits.broker.settings.pop()


def resident_kb(pid):
    """Memory of its own of a process."""
    return int(next(line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("RssAnon")))


def many_partitions(limits):
    """10,000 partitions: what they cost when nothing happens, how fast they are there, and how fast they are written."""
    many = 1_000 if limits.quick else MANY
    limits.broker.restart()
    time.sleep(1)
    before = resident_kb(limits.broker.pid)
    admin = AdminClient({"bootstrap.servers": limits.broker.bootstrap, "log_level": 0})
    topics = [NewTopic("one", 1, 1), NewTopic("all", many, 1)]
    for made in admin.create_topics(topics, request_timeout=300, operation_timeout=300).values():
        made.result(300)
    for label, size in (("1k", 1024), ("16k", 16384)):
        rates = {name: limits.closed_loop(name, partitions=partitions, bytes=size, seconds=3 if limits.quick else 15) for name, partitions in (("one", 1), ("all", many))}
        one, everywhere = (rates[name]["requests"] / rates[name]["seconds"] for name in ("one", "all"))
        limits.note(f"one_partition_{label}_a_second", one)
        limits.note(f"all_partitions_{label}_a_second", everywhere)
        limits.note(f"all_of_one_{label}", everywhere / one)
    limits.note("files_open_after_load", len(os.listdir(f"/proc/{limits.broker.pid}/fd")))
    began = time.monotonic()
    limits.broker.stop()
    limits.note("stop_seconds", time.monotonic() - began)
    starts = []
    for _ in range(3):
        began = time.monotonic()
        limits.broker.start()
        starts.append(time.monotonic() - began)
        time.sleep(1)
        quiet, files = resident_kb(limits.broker.pid), len(os.listdir(f"/proc/{limits.broker.pid}/fd"))
        limits.broker.stop()
    limits.note("start_seconds", statistics.median(starts))
    limits.note("kb_a_quiet_partition", (quiet - before) / many)
    limits.note("files_open_when_quiet", files)


ROWS = [
    ("raw limit", "receive, check CRC-32C, write: MB a CPU second", "raw_mb_a_cpu_second", None),
    ("raw limit", "the produce path, fsync included: MB a CPU second", "produce_mb_a_cpu_second", None),
    ("raw limit", "**share of the raw limit**", "produce_of_raw", ("≥ 0.5", lambda value: value >= 0.5)),
    ("group commit", "one producer of single 1 KB records, acks=all: a second", "one_producer_a_second", None),
    ("group commit", "64 of them: a second", "64_producers_a_second", None),
    ("group commit", "**factor**", "group_commit_factor", ("≥ 20", lambda value: value >= 20)),
    ("group commit", "p99 with 64, ms", "group_commit_p99_ms", None),
    ("group commit", "one write and fdatasync of as many bytes, alone, p50, ms", "fdatasync_ms", None),
    ("group commit", "the same, p99, ms", "fdatasync_p99_ms", None),
    ("group commit", "**p99 with 64 over one fdatasync (p50)**", "group_commit_p99_of_fdatasync", ("≤ 5", lambda value: value <= 5)),
    ("tail reads", "the node's reads from files, 1 consumer, 1,000 records/s", "file_reads_with_1_readers", None),
    ("tail reads", f"the same with {READERS} consumers", f"file_reads_with_{READERS}_readers", None),
    ("tail reads", "**reads more for each further consumer**", "file_reads_a_reader", ("0", lambda value: value < 0.5)),
    ("tail reads", "CPU of the node with 1 consumer, % of a core", "cpu_percent_with_1_readers", None),
    ("tail reads", f"CPU of the node with {READERS} consumers, % of a core", f"cpu_percent_with_{READERS}_readers", None),
    ("catching up", "produce p99 at 2,000/s alone, ms", "produce_p99_ms_alone", None),
    ("catching up", "produce p99 while old data is read at full speed, ms", "produce_p99_ms_beside", None),
    ("catching up", "GB read meanwhile", "caught_up_gb", None),
    ("catching up", "**factor**", "produce_p99_factor", ("≤ 2", lambda value: value <= 2)),
    ("start after SIGKILL", "GB of log", "killed_log_gb", None),
    ("start after SIGKILL", "ready after, s", "killed_start_seconds", None),
    ("start after SIGKILL", "**read meanwhile, MB**", "killed_read_mb", ("≤ 100", lambda value: value <= 100)),
    ("many partitions", "64 producers, 1 KB each, to one partition: a second", "one_partition_1k_a_second", None),
    ("many partitions", "the same spread over all: a second", "all_partitions_1k_a_second", None),
    ("many partitions", "**share**", "all_of_one_1k", ("≥ 0.5", lambda value: value >= 0.5)),
    ("many partitions", "64 producers, 16 KB each, to one partition: a second", "one_partition_16k_a_second", None),
    ("many partitions", "the same spread over all: a second", "all_partitions_16k_a_second", None),
    ("many partitions", "**share**", "all_of_one_16k", ("≥ 0.5", lambda value: value >= 0.5)),
    ("many partitions", "files open right after that", "files_open_after_load", None),
    ("many partitions", "clean stop, s", "stop_seconds", None),
    ("many partitions", "**start after it, s**", "start_seconds", ("≤ 1", lambda value: value <= 1)),
    ("many partitions", "**memory of a quiet partition that holds records, KB**", "kb_a_quiet_partition", ("≤ 30", lambda value: value <= 30)),
    ("many partitions", "files open when all is quiet", "files_open_when_quiet", None),
]


def main(load, quick, output) -> int:
    """One run, from an empty folder."""
    began = datetime.datetime.now(datetime.timezone.utc)
    folder = Path(tempfile.mkdtemp(prefix="millpond-limits-"))
    limits = Limits(folder, load, quick)
    failure = None
    try:
        measure(limits)
    except (processes.CommandFailed, subprocess.SubprocessError, TimeoutError, OSError, ValueError) as error:
        failure = f"{type(error).__name__}: {error}"
        print(failure, limits.broker.log_tail(), file=sys.stderr)
    finally:
        if limits.broker.process is not None:
            limits.broker.stop()
        shutil.rmtree(folder, ignore_errors=True)
    text = render(limits.measured, began, failure)
    print(text)
    if output:
        output.write_text(text)
    return 1 if failure else 0


def render(measured, began, failure) -> str:
    """The whole file."""
    lines = [
        "# Millpond against the machine's limits, and against itself", "",
        f"Written by `bench/run --limits` on {began:%Y-%m-%d %H:%M} UTC. Machine: {table.machine()}. Commit {table.commit()}. One round; the load runs on "
        "the same cores. Everything is synced before it is acknowledged.", "",
        "| | measure | | aim | |", "|---|---|--:|---|---|",
    ]
    for group, name, key, aim in ROWS:
        if key in measured:
            verdict = "" if aim is None else "met" if aim[1](measured[key]) else "**missed**"
            lines.append(f"| {group} | {name} | {table.figure(measured[key])} | {aim[0] if aim else ''} | {verdict} |")
    if failure:
        lines += ["", f"It ended early: {failure}"]
    return "\n".join(lines) + "\n"

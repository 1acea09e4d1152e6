"""The storm and the check after it. Started by crash/run; see there."""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from confluent_kafka import KafkaException, Producer  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

import load  # noqa: E402
from harness import brokers  # noqa: E402

EVENT_PARTITIONS = 4
PRODUCERS = 3
SETTLE_SECONDS = 60

DECLARATIONS = [
    "CREATE STREAM storm_events (producer BIGINT, seq BIGINT, v BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) "
    "WITH (topic = 'events', format = 'json')",
    "CREATE STREAM storm_lines (producer BIGINT, seq BIGINT, v BIGINT, ts TIMESTAMP(3)) WITH (topic = 'lines', format = 'json')",
]
# One partition in: the same order out, so byte for byte. Windows: byte for byte whatever the interleaving was.
# A filter over several partitions: the same rows, each once.
QUERIES = {
    "filtered": "SELECT producer, seq, v FROM storm_lines WHERE v % 3 = 0",
    "counted": "SELECT producer, window_start, window_end, COUNT(*) AS n, SUM(v) AS total FROM TABLE(TUMBLE(TABLE storm_events, "
               "DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY producer, window_start, window_end",
    "spread": "SELECT producer, seq, v FROM storm_events WHERE v % 3 = 0",
}
IN_ANY_ORDER = {"spread"}
# Compaction and retention are at work all the time.
SETTINGS = {"log.cleaner.backoff.ms": "200", "log.retention.check.interval.ms": "1000"}
KEPT = {
    "latest": {"cleanup.policy": "compact", "segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0.1"},
    "aged": {"retention.bytes": "2097152", "segment.bytes": "1048576", "file.delete.delay.ms": "1000"},
}


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--kills", type=int, default=5)
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    arguments.add_argument("--rate", type=int, default=800, help="records a second of each producer")
    arguments.add_argument("--kafka", action="store_true", help="against Apache Kafka, without streams")
    arguments.add_argument("--no-sql", action="store_true", help="without streams")
    arguments.add_argument("--sabotage", action="store_true", help="cut off a log's end after the first kill: the check must see it, or this fails")
    arguments.add_argument("--keep", action="store_true")
    options = arguments.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="millpond-storm-"))
    broker = brokers.Kafka(folder, settings=SETTINGS) if options.kafka else brokers.Millpond(folder, settings=[f"{name}={value}" for name, value in SETTINGS.items()])
    problems = []
    try:
        storm(broker, options, problems)
    except (TimeoutError, KafkaException, OSError, brokers.processes.CommandFailed) as error:
        problems.append(f"{type(error).__name__}: {error}")
    finally:
        if broker.process is not None:
            broker.stop()
    if options.sabotage:
        seen = [problem for problem in problems if "was acknowledged at lines-0" in problem]
        problems = [] if seen else [f"records were cut off, and the check did not see it; it saw {problems[:3]}"]
        print(f"the check saw {len(seen)} records missing, as it should")
    for problem in problems[:40]:
        print(f"FAIL {problem}")
    if problems:
        print(f"The broker's last words:\n{broker.log_tail()}\nIts folder: {folder}")
        print(f"replay with: protocol-tests/crash/run --kills {options.kills} --seed {options.seed} --rate {options.rate}")
    elif not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{0 if problems else 1} passed, {len(problems)} failed")
    return 1 if problems else 0


def storm(broker, options, problems):
    """Load, kills, and every check."""
    chance = random.Random(options.seed)
    with_streams = not (options.kafka or options.no_sql)
    print(f"seed {options.seed}, {options.kills} kills", flush=True)
    broker.start()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    topics = [NewTopic("lines", 1, 1), NewTopic("events", EVENT_PARTITIONS, 1)]
    topics += [NewTopic(name, 1, 1, config=config) for name, config in KEPT.items()]
    for made in admin.create_topics(topics).values():
        made.result(30)
    if with_streams:
        for statement in DECLARATIONS:
            register(broker, statement)
        for name, query in QUERIES.items():
            register(broker, f"CREATE MATERIALIZED STREAM storm_{name} AS {query}")

    producers = [load.IdempotentProducer(number, broker.bootstrap, EVENT_PARTITIONS, options.rate, random.Random(chance.random()))
                 for number in range(PRODUCERS)]
    keyed = load.KeyedProducer(PRODUCERS, broker.bootstrap, 1, options.rate, random.Random(chance.random()))
    member = load.Watcher("member", broker.bootstrap, "storm-members")
    member.subscribe(["lines", "events"])
    watchers = [member]
    if with_streams:
        results = load.Watcher("results", broker.bootstrap, "storm-results")
        topics = admin.list_topics(timeout=20).topics
        results.assign([(f"storm_{name}", partition) for name in QUERIES for partition in topics[f"storm_{name}"].partitions])
        watchers.append(results)

    slowest = 0.0
    for kill in range(options.kills):
        # Mostly soon, so that replays meet replays; sometimes late enough for a checkpoint of the streams' state.
        time.sleep(chance.uniform(4, 8) if kill % 5 == 3 else chance.uniform(0.02, 2.0))
        broker.kill()
        if options.sabotage and kill == 0:
            cut_off(broker)
        if kill % 5 == 1:
            # Again while it recovers.
            broker.spawn()
            time.sleep(chance.uniform(0, 0.2))
            broker.kill()
        began = time.monotonic()
        broker.start()
        slowest = max(slowest, time.monotonic() - began)
        if kill % 10 == 9:
            print(f"{kill + 1} kills, {sum(len(each.acknowledged) for each in producers)} acknowledged", flush=True)
    time.sleep(1)
    for producer in [*producers, keyed]:
        left = producer.end()
        if left or producer.failures:
            problems.append(f"producer {producer.number}: {left} records without an answer, failures: {producer.failures[:3]}")
    print(f"slowest restart {slowest:.2f} s; {sum(len(each.acknowledged) for each in producers)} records acknowledged", flush=True)

    logs = {topic: load.read_all(broker.bootstrap, topic) for topic in ("lines", "events")}
    check_log(producers, logs, problems)
    check_kept(broker, keyed, problems)
    if with_streams:
        check_streams(broker, producers, problems)
    time.sleep(1)
    for watcher in watchers:
        watcher.end()
        check_shown(watcher, broker, problems)


def cut_off(broker):
    """Takes the last records of `lines` away, as a disk that lied would."""
    segment = max(broker.partition_folder("lines", 0).glob("*.log"))
    os.truncate(segment, segment.stat().st_size // 2)


def register(broker, statement):
    """Produces a statement; a refusal is a KafkaException."""
    errors = []
    client = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all", "message.timeout.ms": 30000})
    client.produce("_millpond_sql", statement, on_delivery=lambda error, _: errors.append(error) if error else None)
    if client.flush(40):
        raise TimeoutError(f"no answer to {statement}")
    if errors:
        raise KafkaException(errors[0])


def check_log(producers, logs, problems):
    """No acknowledged record lost or moved, none twice, the order of each producer kept."""
    at, places, last = {}, {}, {}
    for topic, partitions in logs.items():
        for partition, records in partitions.items():
            for expected, (offset, (key, _value, _time)) in enumerate(records):
                if expected != offset:
                    problems.append(f"{topic}-{partition} jumps to offset {offset} where {expected} was due")
                    break
                if not key or key == b"end":
                    continue
                producer, sequence = (int(part) for part in key.split(b"-"))
                at[topic, partition, offset] = (producer, sequence)
                if (producer, sequence) in places:
                    problems.append(f"record {sequence} of producer {producer} stands twice: {places[producer, sequence]} and {(topic, partition, offset)}")
                places[producer, sequence] = (topic, partition, offset)
                if last.get((topic, partition, producer), -1) >= sequence:
                    problems.append(f"{topic}-{partition} offset {offset}: record {sequence} of producer {producer} came after a later one")
                last[topic, partition, producer] = sequence
    for producer in producers:
        for topic, partition, offset, sequence in producer.acknowledged:
            # offset -1: librdkafka knows that the record was stored, not where (its first answer was lost)
            found = at.get((topic, partition, offset)) if offset >= 0 else (producer.number, sequence) if (producer.number, sequence) in places else None
            if found != (producer.number, sequence):
                problems.append(f"record {sequence} of producer {producer.number} was acknowledged at {topic}-{partition} offset {offset}, where the log has {found}")


def check_kept(broker, keyed, problems):
    """Of each key the newest acknowledged record is there, or a newer one; of what retention has left, everything."""
    sent = {"latest": {}, "aged": {}}
    for topic, _, offset, record in keyed.acknowledged:
        if offset >= 0:
            sent[topic][offset] = record
    for topic, acknowledged in sent.items():
        log = {offset: (key, int(value.split(b"-", 1)[0])) for offset, (key, value, _) in load.read_all(broker.bootstrap, topic)[0]}
        problems += [f"{topic} offset {offset} is {log[offset]}, and {record} was acknowledged there"
                     for offset, record in acknowledged.items() if log.get(offset, record) != record][:5]
        start = min(log, default=0)
        if topic == "aged":
            missing = [offset for offset in acknowledged if offset >= start and offset not in log]
        else:
            newest, there = {}, {}
            for offset in sorted(acknowledged):
                newest[acknowledged[offset][0]] = offset
            for offset in sorted(log):
                there[log[offset][0]] = offset
            missing = [offset for key, offset in newest.items() if there.get(key, -1) < offset]
        if missing:
            problems.append(f"{topic} lacks {len(missing)} acknowledged records, the first at offset {min(missing)}; it starts at {start}")
        print(f"{topic}: {len(acknowledged)} acknowledged, {len(log)} there, from offset {start}", flush=True)
        if len(acknowledged) > 20_000 and len(log) > len(acknowledged) * 0.9:
            problems.append(f"{topic} was neither compacted nor trimmed: {len(log)} of {len(acknowledged)} records are there")


def check_shown(watcher, broker, problems):
    """What a reader was ever shown at an offset is what stands there in the end, and nothing was left out."""
    problems += [f"{watcher.name}: {each}" for each in watcher.contradictions[:5]]
    final = {}
    for topic in sorted({topic for topic, _, _ in watcher.shown}):
        for partition, records in load.read_all(broker.bootstrap, topic).items():
            final.update({(topic, partition, offset): record for offset, record in records})
    taken_back = [place for place, record in watcher.shown.items() if final.get(place) != record]
    if taken_back:
        problems.append(f"{watcher.name} was shown {len(taken_back)} records that are not in the log now, the first at {min(taken_back)}")
    missed = [place for place in final if place not in watcher.shown]
    if missed:
        problems.append(f"{watcher.name} was never shown {len(missed)} records, the first at {min(missed)}; its errors: {sorted(watcher.errors)[:3]}")


def check_streams(broker, producers, problems):
    """The outputs of the storm are those of a calm run over the same logs, byte for byte."""
    # A last record far in the future in every partition closes every window of both runs.
    client = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all"})
    end_ms = load.EVENT_TIME_START_MS + max(each.sent for each in producers) * load.MILLISECONDS_A_RECORD + 60_000
    for partition in range(EVENT_PARTITIONS):
        client.produce("events", json.dumps({"producer": -1, "seq": partition, "v": 1, "ts": load.iso(end_ms)}), "end", partition=partition)
    client.flush(30)
    for name, query in QUERIES.items():
        register(broker, f"CREATE MATERIALIZED STREAM calm_{name} AS {query}")
    for name in QUERIES:
        stormy, calm = settled(broker, f"storm_{name}", f"calm_{name}")
        rows = sum(len(records) for records in calm.values())
        if rows == 0:
            problems.append(f"the calm run of {name} has no rows")
        if name in IN_ANY_ORDER:
            flat = [sorted(record for records in each.values() for _, record in records) for each in (stormy, calm)]
            if flat[0] != flat[1]:
                problems.append(f"{name}: {len(flat[0])} rows in the storm, {len(flat[1])} in the calm run, or other ones: {difference(*flat)}")
        elif stormy != calm:
            for partition in calm:
                if stormy.get(partition) != calm[partition]:
                    problems.append(f"{name} partition {partition}: {len(stormy.get(partition, []))} rows in the storm, {len(calm[partition])} in the "
                                    f"calm run; {difference(stormy.get(partition, []), calm[partition])}")
        print(f"{name}: {rows} rows", flush=True)


def settled(broker, *topics):
    """The topics' contents once they agree, or once they have not changed for a while."""
    deadline, before, unchanged_since = time.monotonic() + SETTLE_SECONDS, None, time.monotonic()
    while True:
        now = [load.read_all(broker.bootstrap, topic) for topic in topics]
        if now != before:
            before, unchanged_since = now, time.monotonic()
        equal = now[0] == now[1] and any(now[0].values())
        if (equal and time.monotonic() - unchanged_since > 1) or time.monotonic() - unchanged_since > 12 or time.monotonic() > deadline:
            return now
        time.sleep(0.5)


def difference(stormy, calm):
    """The first place where two lists part."""
    for number, (one, other) in enumerate(zip(stormy, calm)):
        if one != other:
            return f"first difference at {number}: storm {one}, calm {other}"
    return f"one is the beginning of the other; then comes {(stormy[len(calm):] or calm[len(stormy):])[:1]}"


if __name__ == "__main__":
    sys.exit(main())

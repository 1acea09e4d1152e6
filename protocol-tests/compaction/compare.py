"""Compacts one input twice and compares what is left. Started by compaction/run; see there."""

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

from harness import brokers, report  # noqa: E402

RECORDS = 40_000
KEYS = 3_000
ROUNDS = 3
SETTLE_SECONDS = 90
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
# After so long without a record the next one begins a new segment, so that everything before it may be compacted.
SEGMENT_MS = 1_500
CONFIG = {"cleanup.policy": "compact", "segment.bytes": "1048576", "segment.ms": str(SEGMENT_MS), "min.cleanable.dirty.ratio": "0"}
# Tombstones stay for a day, or go with the next compaction.
TOPICS = {"keeps": {**CONFIG, "delete.retention.ms": "86400000"}, "drops": {**CONFIG, "delete.retention.ms": "0"}}


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    arguments.add_argument("--keep", action="store_true")
    options = arguments.parse_args()
    print(f"seed {options.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="millpond-compaction-"))
    pair = [
        brokers.Kafka(folder / "kafka", settings={"log.cleaner.backoff.ms": "200", "log.retention.check.interval.ms": "1000"}),
        brokers.Millpond(folder / "millpond", settings=["log.cleaner.backoff.ms=200", "log.cleaner.io.max.bytes.per.second=1e12"]),
    ]
    results = []
    try:
        run(pair, options, results)
    except (AssertionError, TimeoutError, KafkaException, OSError, brokers.processes.CommandFailed) as error:
        results.append((f"not finished: {type(error).__name__}: {error}", False))
    finally:
        for broker in pair:
            broker.stop()
    return report.conclude(results, folder, options.keep)


def run(pair, options, results):
    """Both brokers get the same records; then what they have kept is compared."""
    kafka, millpond = pair
    for broker in pair:
        broker.start()
        admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
        topics = [NewTopic(name, 1, 1, config=config) for name, config in TOPICS.items()]
        for made in admin.create_topics(topics).values():
            made.result(30)
    sent = {name: {} for name in TOPICS}
    for number in range(ROUNDS):
        for broker in pair:
            for topic in TOPICS:
                produce(broker, topic, number, random.Random(options.seed * 1000 + number), sent[topic])
        time.sleep(SEGMENT_MS / 1000 + 0.5)
        ends = {topic: mark(pair, topic, number, sent[topic]) for topic in TOPICS}
        for broker in pair:
            for topic in TOPICS:
                settle(broker, topic, ends[topic])
    # What was a tombstone in the last round has been compacted once; once more, and its time is over.
    time.sleep(SEGMENT_MS / 1000 + 0.5)
    ends = {topic: mark(pair, topic, ROUNDS, sent[topic]) for topic in TOPICS}
    for broker in pair:
        settle(broker, "keeps", ends["keeps"])
        settle(broker, "drops", ends["drops"], tombstones=False)
    left = {broker.name: {topic: read(broker, topic) for topic in TOPICS} for broker in pair}
    for topic in TOPICS:
        ours, theirs = left["millpond"][topic], left["kafka"][topic]
        print(f"{topic}: {len(sent[topic])} records sent, {len(theirs)} kept by Kafka, {len(ours)} by Millpond, "
              f"{sum(value is None for _, value, _ in theirs.values())} tombstones among them", flush=True)
        differing = sorted(offset for offset in theirs.keys() | ours.keys() if theirs.get(offset) != ours.get(offset))
        results.append((f"{topic}: the same offsets, keys, values and headers; differing {differing[:5]}", not differing))
        results.append((f"{topic}: nothing that was not sent so", all(sent[topic].get(offset) == record for offset, record in ours.items())))
    has_tombstones = {topic: any(value is None for _, value, _ in left["millpond"][topic].values()) for topic in TOPICS}
    results.append(("tombstones stay for their time, and go after it", has_tombstones == {"keeps": True, "drops": False}))

    millpond.kill()
    millpond.start()
    results.append(("the same after kill -9", all(read(millpond, topic) == left["millpond"][topic] for topic in TOPICS)))
    millpond.stop()
    for clean in (True, False):
        kafka.stop()
        for topic in TOPICS:
            move_in(millpond.partition_folder(topic, 0), kafka.partition_folder(topic, 0))
        if not clean:
            (kafka.data / ".kafka_cleanshutdown").unlink()
            (kafka.data / "recovery-point-offset-checkpoint").unlink()
        kafka.start()
        served = all(read(kafka, topic) == left["millpond"][topic] for topic in TOPICS)
        results.append((f"Kafka serves our folders after {'a clean stop' if clean else 'a crash'}", served))
        client = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0, "acks": "all"})
        client.produce("keeps", "more", "more")
        results.append(("and goes on in them", client.flush(30) == 0 and len(read(kafka, "keeps")) >= len(left["millpond"]["keeps"])))
    millpond.start()


def produce(broker, topic, number, chance, sent):
    """A part of the input: every codec in turn, some tombstones, keys that come again and again and keys that come once."""
    for part, codec in enumerate(CODECS):
        client = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0, "acks": "all", "compression.type": codec, "linger.ms": 20,
                           "enable.idempotence": True, "batch.size": 20_000})
        for count in range(RECORDS // ROUNDS // len(CODECS)):
            chosen = chance.random()
            key = f"once-{number}-{part}-{count}" if chosen < 0.02 else f"key-{int(KEYS * chance.random() ** 2)}"
            value = None if chance.random() < 0.08 else f"{number}-{part}-{count}-".encode() + b"v" * chance.randrange(20, 400)
            headers = [("h", str(count).encode())] if chance.random() < 0.1 else None
            # Timestamps differ from now by little, and are the same for both.
            offset = number * (RECORDS // ROUNDS // len(CODECS) * len(CODECS) + 1) + part * (RECORDS // ROUNDS // len(CODECS)) + count
            sent[offset] = (key.encode(), value, tuple(headers or ()))
            while True:
                try:
                    client.produce(topic, value, key, headers=headers)
                    break
                except BufferError:
                    client.poll(0.1)
            client.poll(0)
        assert client.flush(60) == 0, f"{topic} of {broker.name} does not take the records"


def mark(pair, topic, number, sent):
    """One more record, which begins a new segment; returns its offset."""
    ends = set()
    for broker in pair:
        client = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0, "acks": "all"})
        told = []
        client.produce(topic, "mark", f"mark-{number}", on_delivery=lambda error, message: told.append((error, message.offset())))
        assert client.flush(30) == 0 and told[0][0] is None, f"{told}"
        ends.add(told[0][1])
    assert len(ends) == 1, f"the marks stand at {ends}"
    end = ends.pop()
    sent[end] = (f"mark-{number}".encode(), b"mark", ())
    return end


def settle(broker, topic, end, tombstones=True):
    """Waits until each key stands once below `end`, and perhaps until no tombstone is left there."""
    deadline, before, unchanged_since = time.monotonic() + SETTLE_SECONDS, None, time.monotonic()
    while True:
        now = read(broker, topic)
        keys = [key for offset, (key, _, _) in now.items() if offset < end]
        if now != before:
            before, unchanged_since = now, time.monotonic()
        gone = tombstones or all(value is not None for offset, (_, value, _) in now.items() if offset < end)
        if gone and len(keys) == len(set(keys)) and time.monotonic() - unchanged_since > 1.5:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{broker.name} has not compacted {topic} below {end} within {SETTLE_SECONDS} s: {len(keys)} records, {len(set(keys))} keys")
        time.sleep(0.3)


def read(broker, topic):
    """Key, value and headers of every record, by offset."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "reader", "log_level": 0, "enable.auto.commit": False,
                         "auto.offset.reset": "earliest", "check.crcs": True, "enable.partition.eof": True})
    found, deadline = {}, time.monotonic() + 60
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        while time.monotonic() < deadline:
            message = consumer.poll(5)
            if message is None:
                continue
            if message.error() is None:
                assert message.offset() not in found, f"offset {message.offset()} of {topic} came twice"
                found[message.offset()] = (message.key(), message.value(), tuple(message.headers() or ()))
            elif message.error().code() == -191:
                return found
            else:
                raise KafkaException(message.error())
    finally:
        consumer.close()
    raise TimeoutError(f"{broker.name} did not come to the end of {topic}")


def move_in(ours, theirs):
    """Puts our files of a partition into the place of Kafka's; the topic's id stays Kafka's."""
    for path in theirs.iterdir():
        if path.name != "partition.metadata":
            path.unlink()
    for path in ours.iterdir():
        if path.name != "partition.metadata":
            shutil.copy(path, theirs / path.name)


if __name__ == "__main__":
    sys.exit(main())

"""The load of the storm: idempotent producers that note every acknowledgement, and readers that note what they were shown."""

import json
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

# A record's place in event time: this many milliseconds a record, a little out of order.
MILLISECONDS_A_RECORD = 5
EVENT_TIME_START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


def iso(event_ms: int) -> str:
    """Event time as the streams read it."""
    seconds, milliseconds = divmod(event_ms, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{milliseconds:03d}"


class IdempotentProducer:
    """Sends numbered records to `lines` (one partition) and `events` (several), and notes where each was acknowledged."""

    def __init__(self, number, bootstrap, event_partitions, records_a_second, random):
        self.number, self.event_partitions, self.random = number, event_partitions, random
        self.records_a_second = records_a_second
        self.client = Producer({
            "bootstrap.servers": bootstrap, "client.id": f"storm-{number}", "enable.idempotence": True, "acks": "all",
            "message.timeout.ms": 300_000, "linger.ms": 2, "retry.backoff.ms": 20, "retry.backoff.max.ms": 100,
            "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200,
            "queue.buffering.max.messages": 20_000, "log_level": 0,
        })
        self.acknowledged, self.failures = [], []  # (topic, partition, offset, sequence)
        self.sent, self.running = 0, True
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _delivered(self, error, message):
        if error is not None:
            self.failures.append(str(error))
            return
        self.acknowledged.append((message.topic(), message.partition(), message.offset(), int(message.key().split(b"-")[1])))

    def _run(self):
        try:
            self._send_until_told()
        except KafkaException as error:  # fatal: the broker and the producer disagree about what was sent
            self.failures.append(str(error))

    def _send_until_told(self):
        began = time.monotonic()
        while self.running:
            sequence = self.sent
            try:
                self._send(sequence)
                self.sent += 1
            except BufferError:
                self.client.poll(0.05)
                continue
            self.client.poll(0)
            ahead = self.sent / self.records_a_second - (time.monotonic() - began)
            if ahead > 0.005:
                self.client.poll(ahead)

    def _send(self, sequence):
        event_ms = EVENT_TIME_START_MS + sequence * MILLISECONDS_A_RECORD - self.random.randrange(0, 400)
        value = json.dumps({"producer": self.number, "seq": sequence, "v": self.random.randrange(0, 1000), "ts": iso(event_ms)})
        topic, partition = ("lines", 0) if sequence % 2 else ("events", sequence // 2 % self.event_partitions)
        self.client.produce(topic, value, f"{self.number}-{sequence}", partition=partition, on_delivery=self._delivered)

    def end(self):
        """Stops sending and waits until everything sent is acknowledged; returns how many are not."""
        self.running = False
        self.thread.join(60)
        return self.client.flush(1 if self.failures else 120)


class KeyedProducer(IdempotentProducer):
    """Sends records with few keys to `latest` (compacted) and `aged` (of which retention leaves the newest)."""

    KEYS = 50

    def _delivered(self, error, message):
        if error is not None:
            self.failures.append(str(error))
            return
        sequence = int(message.value().split(b"-", 1)[0]) if message.value() is not None else None
        self.acknowledged.append((message.topic(), message.partition(), message.offset(), (message.key(), sequence)))

    def _send(self, sequence):
        key = f"key-{self.random.randrange(self.KEYS)}" if self.random.random() < 0.98 else f"once-{sequence}"
        value = f"{sequence}-" + "v" * self.random.randrange(200, 1200)
        self.client.produce("latest" if sequence % 2 else "aged", value, key, partition=0, on_delivery=self._delivered)


class Watcher:
    """Reads topics from their beginning all through the storm and notes what it was shown at which offset."""

    def __init__(self, name, bootstrap, group):
        self.name, self.shown, self.contradictions, self.errors = name, {}, [], set()
        self.client = Consumer({
            "bootstrap.servers": bootstrap, "group.id": group, "client.id": name, "auto.offset.reset": "earliest", "enable.auto.commit": True,
            "auto.commit.interval.ms": 300, "isolation.level": "read_uncommitted", "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200,
            "topic.metadata.refresh.interval.ms": 1000, "session.timeout.ms": 6000, "allow.auto.create.topics": False, "log_level": 0,
        })
        self.running = True

    def subscribe(self, topics):
        """As a member of a group, whose commits and rebalances go through the storm too."""
        self.client.subscribe(topics)
        self._begin()

    def assign(self, places):
        """Without a group: every partition from its start."""
        self.client.assign([TopicPartition(topic, partition, 0) for topic, partition in places])
        self._begin()

    def _begin(self):
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while self.running:
            message = self.client.poll(0.1)
            if message is None:
                continue
            if message.error():
                self.errors.add(str(message.error()))
                continue
            place, record = (message.topic(), message.partition(), message.offset()), content(message)
            before = self.shown.setdefault(place, record)
            if before != record:
                self.contradictions.append(f"{place} was {before} and then {record}")

    def end(self):
        """Stops reading."""
        self.running = False
        self.thread.join(60)
        self.client.close()


def content(message):
    """What a record is, for comparisons: key, value, timestamp."""
    return message.key(), message.value(), message.timestamp()[1]


def read_all(bootstrap, topic, timeout_seconds=60):
    """The whole topic as {partition: [(offset, content)]}, from a fresh reader."""
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "storm-final", "enable.auto.commit": False, "log_level": 0})
    try:
        partitions = sorted(reader.list_topics(topic, 20).topics[topic].partitions)
        ends, result = {}, {}
        for partition in partitions:
            low, high = reader.get_watermark_offsets(TopicPartition(topic, partition), 20)
            ends[partition], result[partition] = high, []
            if high <= low:
                ends[partition] = 0
        reader.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        deadline = time.monotonic() + timeout_seconds
        while any((result[partition][-1][0] + 1 if result[partition] else 0) < end for partition, end in ends.items()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic} could not be read to its end within {timeout_seconds} s: ends {ends}, read "
                                   f"{ {partition: len(records) for partition, records in result.items()} }")
            message = reader.poll(0.2)
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            result[message.partition()].append((message.offset(), content(message)))
        return result
    finally:
        reader.close()

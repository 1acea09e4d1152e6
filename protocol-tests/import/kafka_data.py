"""What is in a broker: made by real clients in a Kafka, and looked at in the same way there and in Millpond."""

import time

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, OffsetSpec, ResourceType

from harness import dump_log

# A record begins a new segment after so long, so that everything before it may be compacted.
SEGMENT_MS = 1_500
COMPACTED = {"cleanup.policy": "compact", "segment.bytes": "1048576", "segment.ms": str(SEGMENT_MS), "min.cleanable.dirty.ratio": "0.01"}
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
SECONDS_MAX = 60

# Topic -> partitions and configurations.
TOPICS = {
    "many": (3, {"segment.bytes": "1048576", "max.message.bytes": "2000000"}),
    "compacted": (1, COMPACTED),
    "trimmed": (2, {"segment.bytes": "1048576", "cleanup.policy": "delete", "retention.ms": "-1"}),
    "codecs": (2, {"message.timestamp.type": "LogAppendTime", "compression.lz4.level": "5"}),
    "going-on": (1, {}),
    "transactions": (1, {}),
    "empty": (4, {}),
    "again": (1, {"segment.ms": "60000"}),
    "deleted": (2, {}),
}
# What Kafka knows and Millpond does not take: it must be told.
LEFT_OUT = {("codecs", "compression.lz4.level")}
# Commits offsets within transactions.
TRANSACTIONAL_GROUP = "within"
GROUPS = {"halfway": "classic", "done": "classic", "modern": "consumer"}


def admin(broker):
    return AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})


def results(futures):
    return {name: future.result(SECONDS_MAX) for name, future in futures.items()}


def fill(kafka):
    """Everything that an import must bring over. Answers the idempotent producer, which is to go on."""
    client = admin(kafka)
    results(client.create_topics([NewTopic(name, count, 1, config=config) for name, (count, config) in TOPICS.items()]))
    for name in ("many", "trimmed", "deleted", "again"):
        produce(kafka, name, [(f"{name}-{number}", b"x" * 700, number % TOPICS[name][0], None) for number in range(6_000)])
    for number, codec in enumerate(CODECS):
        records = [(f"{codec}-{count}", f"value {count}".encode(), count % 2, [("codec", codec.encode()), ("none", None)])
                   for count in range(300)]
        produce(kafka, "codecs", records, **{"compression.type": codec, "linger.ms": 50 * (number % 2)})
    transact(kafka)
    fill_compacted(kafka, "compacted", 0)
    results(client.delete_records([TopicPartition("trimmed", 0, 1_234), TopicPartition("trimmed", 1, 3_000)]))
    results(client.delete_topics(["deleted", "again"]))
    wait(lambda: not {"deleted", "again"} & set(client.list_topics(timeout=10).topics), "the topics are gone")
    results(client.create_topics([NewTopic("again", 2, 1, config={"retention.bytes": "123456789"})]))
    produce(kafka, "again", [("new", b"new", 1, None)])
    change_configs(kafka, client)
    for group, protocol in GROUPS.items():
        member = joined(kafka, group, protocol)
        read_some(member, 900 if group == "halfway" else 6_000)
        member.commit(asynchronous=False)
        member.close()
    settle(kafka, "compacted")
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0, "enable.idempotence": True, "batch.size": 2_000,
                         "reconnect.backoff.max.ms": 500, "message.timeout.ms": 120_000})
    go_on(producer, range(200))
    return producer


def transact(kafka):
    """Transactions that were committed and aborted, each with records and a group's offset."""
    writer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0, "transactional.id": "writer"})
    reader = Consumer({"bootstrap.servers": kafka.bootstrap, "log_level": 0, "group.id": TRANSACTIONAL_GROUP})
    writer.init_transactions(SECONDS_MAX)
    for number, is_committed in enumerate((True, False, True, False)):
        writer.begin_transaction()
        for count in range(200):
            writer.produce("transactions", f"{number}-{count}", partition=0)
        writer.flush(SECONDS_MAX)
        writer.send_offsets_to_transaction([TopicPartition("many", 0, 100 * (number + 1))], reader.consumer_group_metadata(), SECONDS_MAX)
        (writer.commit_transaction if is_committed else writer.abort_transaction)(SECONDS_MAX)
    reader.close()


def change_configs(kafka, client):
    """Configurations that were changed while Kafka ran: a topic's, one of them twice and one taken away; and the defaults of all."""
    def alter(name, value, operation=AlterConfigOpType.SET):
        entry = ConfigEntry(name, value, incremental_operation=operation)
        results(client.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, "many", incremental_configs=[entry])]))
    alter("retention.ms", "800000000")
    alter("retention.ms", "900000000")
    alter("flush.messages", "7")
    alter("flush.messages", "7", AlterConfigOpType.DELETE)
    def configure(kind, whose, configs):
        dump_log._tool("kafka.admin.ConfigCommand", "--bootstrap-server", kafka.bootstrap, "--alter", "--entity-type", kind, *whose, "--add-config", configs)
    configure("brokers", ["--entity-default"], "log.retention.ms=700000000,log.cleaner.threads=2")
    configure("users", ["--entity-name", "alice"], "SCRAM-SHA-256=[iterations=4096,password=secret]")
    configure("users", ["--entity-name", "alice"], "producer_byte_rate=1000000")


def fill_compacted(broker, topic, number):
    """Keys that come again and again, and tombstones, in several segments."""
    for part in range(3):
        records = [(f"key-{count * 7 % 500}", None if count % 11 == 0 else f"{number}-{part}-{count}".encode() + b"v" * 300, 0, None)
                   for count in range(2_500)]
        produce(broker, topic, records, **{"enable.idempotence": True, "compression.type": CODECS[part + 2]})
    time.sleep(SEGMENT_MS / 1000 + 0.5)
    produce(broker, topic, [(f"mark-{number}", b"mark", 0, None)])


def settle(broker, topic):
    """Waits until each key but that of the newest record stands once."""
    def is_compacted():
        keys = [key for key, *_ in read(broker, topic, 1)[0].values()][:-1]
        return len(keys) == len(set(keys))
    wait(is_compacted, f"{broker.name} has compacted {topic}", 90)


def produce(broker, topic, records, **settings):
    """Sends (key, value, partition, headers), and waits for all acknowledgements."""
    client = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0, "acks": "all", "linger.ms": 20, "batch.size": 20_000, **settings})
    errors = []
    for key, value, partition, headers in records:
        while True:
            try:
                client.produce(topic, value, key, partition, headers=headers, on_delivery=lambda error, _: error and errors.append(error))
                break
            except BufferError:
                client.poll(0.1)
        client.poll(0)
    assert client.flush(SECONDS_MAX) == 0 and not errors, f"{topic} of {broker.name}: {errors[:1]}"


def go_on(producer, numbers):
    """The idempotent producer sends these numbers to the topic `going-on`; answers their offsets."""
    told = []
    for number in numbers:
        producer.produce("going-on", str(number), str(number), 0, on_delivery=lambda error, message: told.append((error, message.offset())))
        producer.poll(0)
    assert producer.flush(120) == 0, "the idempotent producer waits in vain"
    assert not any(error for error, _ in told), told[:1]
    return [offset for _, offset in told]


def joined(broker, group, protocol="classic"):
    """A member of a group that reads the topic `many` as the group's offsets say."""
    settings = {"session.timeout.ms": 6000} if protocol == "classic" else {}
    member = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group, "group.protocol": protocol, "log_level": 0, "client.id": group,
                       "enable.auto.commit": False, "auto.offset.reset": "earliest", **settings})
    member.subscribe(["many"])
    return member


def read_some(member, count):
    """So many records of a group's member, in the order in which they came."""
    found, deadline = [], time.monotonic() + SECONDS_MAX
    while len(found) < count and time.monotonic() < deadline:
        message = member.poll(1)
        if message is not None:
            assert message.error() is None, message.error()
            found.append((message.partition(), message.offset()))
    assert len(found) == count, f"{len(found)} records of {count}"
    return found


def read(broker, topic, partitions):
    """By partition, and by offset: key, value, headers, timestamp with its type."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "reader", "log_level": 0, "enable.auto.commit": False,
                         "auto.offset.reset": "earliest", "check.crcs": True, "enable.partition.eof": True})
    found = {partition: {} for partition in range(partitions)}
    ended, deadline = set(), time.monotonic() + SECONDS_MAX
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in found])
        while len(ended) < partitions and time.monotonic() < deadline:
            message = consumer.poll(1)
            if message is None:
                continue
            if message.error() is None:
                record = (message.key(), message.value(), tuple(message.headers() or ()), message.timestamp())
                found[message.partition()][message.offset()] = record
            elif message.error().code() == -191:
                ended.add(message.partition())
            else:
                raise KafkaException(message.error())
    finally:
        consumer.close()
    assert len(ended) == partitions, f"{broker.name} did not come to the end of {topic}"
    return found


def look(broker):
    """All that an import must leave as it is."""
    client = admin(broker)
    names = sorted(name for name in client.list_topics(timeout=10).topics if not name.startswith("_"))
    described = results(client.describe_topics(TopicCollection(names + ["__consumer_offsets"])))
    counts = {name: len(described[name].partitions) for name in described}
    every = [TopicPartition(name, partition) for name in names for partition in range(counts[name])]
    ends = {}
    for which, spec in (("earliest", OffsetSpec.earliest()), ("latest", OffsetSpec.latest()), ("max", OffsetSpec.max_timestamp())):
        # Kafka finds the newest timestamp among deleted records, too, and among markers of transactions.
        asked = [where for where in every if which != "max" or where.topic in ("many", "codecs")]
        for where, future in client.list_offsets({partition: spec for partition in asked}).items():
            ends[(where.topic, where.partition, which)] = future.result(SECONDS_MAX).offset
    configs = results(client.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in names]))
    committed = {}
    for group in [*GROUPS, TRANSACTIONAL_GROUP]:
        listed = results(client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))
        for where in listed[group].topic_partitions:
            committed[(group, where.topic, where.partition)] = (where.offset, where.metadata)
    return {
        "topics, ids and partitions": {name: (str(described[name].topic_id), counts[name]) for name in described},
        "first and last offsets, and those of the newest timestamps": ends,
        # Sources: 1 is the topic's own, 3 the default of all brokers that was set while running.
        "configurations": {(resource.name, name): (entry.value, entry.source) for resource, entries in configs.items()
                           for name, entry in entries.items() if entry.source in (1, 3) and (resource.name, name) not in LEFT_OUT},
        "committed offsets": committed,
        "records": {name: read(broker, name, counts[name]) for name in names},
    }


def wait(condition, what, seconds=SECONDS_MAX):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.3)

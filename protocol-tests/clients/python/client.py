"""The shared list of steps with confluent-kafka (librdkafka's Python binding). See protocol-tests/README.md."""

import json
import sys
import threading
import time
import traceback

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType,
)

BOOTSTRAP, PREFIX, WITH_SQL = sys.argv[1], sys.argv[2], sys.argv[3] == "sql"
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
PER_CODEC = 60
STEP_SECONDS = 30

MAIN, IDEMPOTENT, GROUP_TOPIC, EVENTS = (f"{PREFIX}_{name}" for name in ("main", "idem", "group", "events"))
GROUP = f"{PREFIX}_members"

admin = AdminClient({"bootstrap.servers": BOOTSTRAP})


def producer(**settings):
    return Producer({"bootstrap.servers": BOOTSTRAP, "acks": "all", "message.timeout.ms": 20000, **settings})


def consumer(group, **settings):
    return Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": group, "auto.offset.reset": "earliest",
                     "enable.auto.commit": False, "session.timeout.ms": 6000, "heartbeat.interval.ms": 500, **settings})


def send(client, topic, records):
    """Produces (key, value, headers, partition) records; raises the first delivery error."""
    errors = []
    for key, value, headers, partition in records:
        where = {} if partition is None else {"partition": partition}
        client.produce(topic, value, key, headers=headers, on_delivery=lambda error, _: errors.append(error) if error else None, **where)
        client.poll(0)
    left = client.flush(STEP_SECONDS)
    if errors:
        raise KafkaException(errors[0])
    check(left == 0, f"{left} records were not delivered in {STEP_SECONDS} s")


def read(topic, count, partitions=None, extra_seconds=0.3):
    """Reads a topic from its beginning until `count` records came, and a little longer for surplus ones."""
    reader = consumer(f"{PREFIX}_reader")
    known = partitions or len(reader.list_topics(topic, 10).topics[topic].partitions)
    reader.assign([TopicPartition(topic, partition, 0) for partition in range(known)])
    got, deadline = [], time.monotonic() + STEP_SECONDS
    while time.monotonic() < deadline:
        message = reader.poll(0.2)
        if message is not None:
            if message.error():
                raise KafkaException(message.error())
            got.append(message)
            if len(got) == count:
                deadline = min(deadline, time.monotonic() + extra_seconds)
    reader.close()
    check(len(got) == count, f"{len(got)} records of {topic} instead of {count}")
    return got


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def create_topic():
    for future in admin.create_topics([NewTopic(MAIN, 4, 1, config={"retention.ms": "86400000"}), NewTopic(GROUP_TOPIC, 4, 1),
                                       NewTopic(IDEMPOTENT, 1, 1)]).values():
        future.result(STEP_SECONDS)
    try:
        admin.create_topics([NewTopic(MAIN, 4, 1)])[MAIN].result(STEP_SECONDS)
        check(False, "the second creation of a topic was not refused")
    except KafkaException as error:
        check(error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS, f"the second creation gave {error}")
    check(len(admin.list_topics(MAIN, 10).topics[MAIN].partitions) == 4, "the topic has not 4 partitions")


def produce(codec):
    client = producer(**{"compression.type": codec, "linger.ms": 20})
    send(client, MAIN, [(f"{codec}-{i}", f"{codec} value {i} " + "abcdefgh" * 25, [("codec", codec), ("n", str(i)), ("none", None)], None)
                        for i in range(PER_CODEC)])


def consume_all():
    got = read(MAIN, PER_CODEC * len(CODECS))
    seen, last = set(), {}
    for message in got:
        codec, number = message.key().decode().split("-")
        headers = dict(message.headers())
        check(headers == {"codec": codec.encode(), "n": number.encode(), "none": None}, f"headers of {message.key()}: {headers}")
        check(message.value().decode().startswith(f"{codec} value {number} abc"), f"value of {message.key()}")
        check(message.key() not in seen, f"{message.key()} came twice")
        seen.add(message.key())
        place = (message.partition(), codec)
        check(last.get(place, -1) < int(number), f"order in {place}")
        last[place] = int(number)


def idempotent():
    client = producer(**{"enable.idempotence": True, "linger.ms": 0, "batch.num.messages": 7})
    send(client, IDEMPOTENT, [(None, str(i), None, 0) for i in range(500)])
    values = [int(message.value()) for message in read(IDEMPOTENT, 500)]
    check(values == list(range(500)), "the records are not 0 to 499 in order")


def offsets():
    places = [TopicPartition(MAIN, partition) for partition in range(4)]

    def total(spec):
        return [future.result(STEP_SECONDS).offset for future in admin.list_offsets({place: spec for place in places}).values()]
    check(sum(total(OffsetSpec.earliest())) == 0, "earliest offsets are not 0")
    check(sum(total(OffsetSpec.latest())) == PER_CODEC * len(CODECS), f"latest offsets {total(OffsetSpec.latest())}")
    check(max(total(OffsetSpec.max_timestamp())) >= 0, "no record with the highest timestamp")
    reader = consumer(f"{PREFIX}_reader")
    early = reader.offsets_for_times([TopicPartition(MAIN, place.partition, 1000) for place in places], STEP_SECONDS)
    check(all(place.offset == 0 for place in early), f"offsets for the year 1970: {early}")
    future = int((time.time() + 86400) * 1000)
    late = reader.offsets_for_times([TopicPartition(MAIN, place.partition, future) for place in places], STEP_SECONDS)
    check(all(place.offset == -1 for place in late), f"offsets for tomorrow: {late}")
    low, high = reader.get_watermark_offsets(places[0], STEP_SECONDS)
    check(low == 0 and high > 0, f"watermarks {low} {high}")
    reader.close()


class Member:
    """A group member on a thread of its own."""

    def __init__(self, name, **settings):
        self.client = consumer(GROUP, **{"client.id": name, **settings})
        self.assigned, self.values, self.running, self.error = set(), [], True, None
        self.commit_requests, self.lock = 0, threading.Lock()
        self.client.subscribe([GROUP_TOPIC])
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while self.running:
                message = self.client.poll(0.1)
                self.assigned = {place.partition for place in self.client.assignment()}
                if message is not None:
                    if message.error():
                        raise KafkaException(message.error())
                    self.values.append(message.value().decode())
                with self.lock:
                    if self.commit_requests:
                        self.client.commit(asynchronous=False)
                        self.commit_requests = 0
            self.client.close()
        except Exception as error:  # shown by the step that waits for this member
            self.error = error

    def commit(self):
        with self.lock:
            self.commit_requests = 1
        wait(lambda: self.commit_requests == 0 or self.error, f"commit ({self.error})")
        check(self.error is None, f"commit: {self.error}")

    def leave(self):
        self.running = False
        self.thread.join(STEP_SECONDS)
        check(self.error is None, f"member ended with {self.error}")


def wait(condition, what):
    deadline = time.monotonic() + STEP_SECONDS
    while not condition():
        check(time.monotonic() < deadline, f"not within {STEP_SECONDS} s: {what}")
        time.sleep(0.05)


state = {}


def group_of_two():
    first = state["first"] = Member("first", **{"partition.assignment.strategy": "cooperative-sticky"})
    wait(lambda: len(first.assigned) == 4 or first.error, f"the first member owns 4 partitions ({first.error})")
    second = Member("second", **{"partition.assignment.strategy": "cooperative-sticky"})
    wait(lambda: len(first.assigned) == 2 and len(second.assigned) == 2 or first.error or second.error, "each member owns 2 partitions")
    writer = state["writer"] = producer()
    send(writer, GROUP_TOPIC, [(None, f"a{i}", None, i % 4) for i in range(100)])
    wait(lambda: len(first.values) + len(second.values) >= 100, "the members got 100 records")
    check(sorted(first.values + second.values) == sorted(f"a{i}" for i in range(100)), "the members' records are not what was sent")
    check(len(first.values) == 50, f"the first member got {len(first.values)} of 100")
    first.commit()
    second.commit()
    second.leave()
    wait(lambda: len(first.assigned) == 4 or first.error, "the first member owns all again after the second left")
    first.values.clear()
    send(writer, GROUP_TOPIC, [(None, f"b{i}", None, i % 4) for i in range(20)])
    wait(lambda: len(first.values) >= 20 or first.error, f"the first member got 20 more ({len(first.values)}, {first.error})")
    check(sorted(first.values) == sorted(f"b{i}" for i in range(20)), f"after the rebalance came {first.values}")


def commit():
    state["first"].commit()
    reader = consumer(GROUP)
    committed = reader.committed([TopicPartition(GROUP_TOPIC, partition) for partition in range(4)], STEP_SECONDS)
    reader.close()
    check([place.offset for place in committed] == [30] * 4, f"committed offsets {committed}")


def restart_resume():
    first, writer = state["first"], state["writer"]
    first.values.clear()
    print("REQUEST restart", flush=True)
    check(sys.stdin.readline().strip() == "restarted", "the runner could not restart the broker")
    send(writer, GROUP_TOPIC, [(None, f"c{i}", None, i % 4) for i in range(20)])
    wait(lambda: len(first.values) >= 20 or first.error, f"the member got 20 records after the restart ({len(first.values)}, {first.error})")
    check(sorted(first.values) == sorted(f"c{i}" for i in range(20)), f"after the restart came {first.values}")
    first.commit()
    first.leave()
    third = Member("third")
    wait(lambda: len(third.assigned) == 4 or third.error, f"a new member owns all partitions ({third.error})")
    send(writer, GROUP_TOPIC, [(None, f"d{i}", None, i % 4) for i in range(4)])
    wait(lambda: len(third.values) >= 4 or third.error, "the new member got 4 records")
    time.sleep(0.3)
    check(sorted(third.values) == [f"d{i}" for i in range(4)], f"the new member got {third.values}")
    third.leave()


def configs():
    topic = ConfigResource(ResourceType.TOPIC, MAIN)
    described = admin.describe_configs([topic])[topic].result(STEP_SECONDS)
    check(described["retention.ms"].value == "86400000" and not described["retention.ms"].is_default, "retention.ms as created")
    check(described["cleanup.policy"].value == "delete" and described["cleanup.policy"].is_default, "cleanup.policy's default")
    change = ConfigResource(ResourceType.TOPIC, MAIN, incremental_configs=[
        ConfigEntry("retention.ms", "3600000", incremental_operation=AlterConfigOpType.SET),
        ConfigEntry("max.message.bytes", "2000000", incremental_operation=AlterConfigOpType.SET)])
    admin.incremental_alter_configs([change])[change].result(STEP_SECONDS)
    described = admin.describe_configs([topic])[topic].result(STEP_SECONDS)
    check(described["retention.ms"].value == "3600000", "retention.ms after the change")
    wrong = ConfigResource(ResourceType.TOPIC, MAIN, incremental_configs=[
        ConfigEntry("retention.ms", "soon", incremental_operation=AlterConfigOpType.SET)])
    try:
        admin.incremental_alter_configs([wrong])[wrong].result(STEP_SECONDS)
        check(False, "retention.ms=soon was accepted")
    except KafkaException as error:
        check(error.args[0].code() == KafkaError.INVALID_CONFIG, f"retention.ms=soon gave {error}")
    broker = ConfigResource(ResourceType.BROKER, "1")
    check("num.partitions" in admin.describe_configs([broker])[broker].result(STEP_SECONDS), "the broker's configs lack num.partitions")
    check(len(admin.describe_cluster().result(STEP_SECONDS).nodes) == 1, "the cluster has not one node")


def partitions():
    admin.create_partitions([NewPartitions(MAIN, 6)])[MAIN].result(STEP_SECONDS)
    wait(lambda: len(admin.list_topics(MAIN, 10).topics[MAIN].partitions) == 6, "6 partitions are listed")
    send(producer(), MAIN, [(None, "in the new one", None, 5)])


def groups():
    listed = admin.list_consumer_groups().result(STEP_SECONDS)
    check(GROUP in [group.group_id for group in listed.valid], "the group is not listed")
    described = admin.describe_consumer_groups([GROUP])[GROUP].result(STEP_SECONDS)
    check(described.state.name == "EMPTY", f"the group's state is {described.state}")
    asked = ConsumerGroupTopicPartitions(GROUP)
    found = admin.list_consumer_group_offsets([asked])[GROUP].result(STEP_SECONDS)
    check(len(found.topic_partitions) == 4, f"the group's offsets: {found.topic_partitions}")
    admin.delete_consumer_groups([GROUP])[GROUP].result(STEP_SECONDS)
    listed = admin.list_consumer_groups().result(STEP_SECONDS)
    check(GROUP not in [group.group_id for group in listed.valid], "the group is listed after its deletion")


def delete_records():
    place = TopicPartition(MAIN, 0, 5)
    deleted = admin.delete_records([place])[place].result(STEP_SECONDS)
    check(deleted.low_watermark == 5, f"low watermark {deleted.low_watermark}")
    reader = consumer(f"{PREFIX}_reader")
    low, _ = reader.get_watermark_offsets(TopicPartition(MAIN, 0), STEP_SECONDS)
    reader.close()
    check(low == 5, f"the log starts at {low}")


def delete_topic():
    admin.delete_topics([MAIN])[MAIN].result(STEP_SECONDS)
    wait(lambda: MAIN not in admin.list_topics(timeout=10).topics, "the topic is gone")


def row(number):
    return json.dumps({"n": number, "name": f"row-{number}", "price": number / 2})


def statement(name, sql):
    send(producer(), "_millpond_sql", [(f"{PREFIX}-{name}", sql, [("from", "confluent-kafka")], 0)])


def sql_register():
    send(producer(), EVENTS, [(None, row(number), None, 0) for number in range(100)])
    statement("good", f"CREATE MATERIALIZED STREAM {PREFIX}_big AS SELECT n, name FROM {EVENTS} WHERE n >= 90")


def sql_refused():
    try:
        statement("bad", f"CREATE MATERIALIZED STREAM {PREFIX}_bad AS SELECT nmae FROM {EVENTS}")
    except KafkaException as error:
        check(error.args[0].code() == 87, f"the wrong statement gave {error}")  # INVALID_RECORD
        return
    check(False, "the wrong statement was accepted")


def answer(name):
    """The answer to our statement, found by its key among the answers."""
    reader = consumer(f"{PREFIX}_reader")
    reader.assign([TopicPartition("_millpond_answers", 0, 0)])
    deadline = time.monotonic() + STEP_SECONDS
    try:
        while time.monotonic() < deadline:
            message = reader.poll(0.2)
            if message is not None and not message.error() and message.key() == f"{PREFIX}-{name}".encode():
                check(("from", b"confluent-kafka") in (message.headers() or []), f"the answer's headers are {message.headers()}")
                return json.loads(message.value())
    finally:
        reader.close()
    raise AssertionError(f"no answer for {name}")


def sql_answers():
    refused = answer("bad")
    text = refused["error"]["message"]
    check("nmae" in text and refused["error"]["line"] == 1 and refused["error"]["column"] > 1, f"the refusal says {refused}")
    check("name" in (text + str(refused["error"].get("hint"))).replace("nmae", ""), f"no suggestion in {refused}")
    statement("show", "SHOW STREAMS")
    check(f"{PREFIX}_big" in json.dumps(answer("show")["rows"]), "SHOW STREAMS does not name the stream")


def sql_results():
    wait(lambda: f"{PREFIX}_big" in admin.list_topics(timeout=10).topics, "the stream's topic exists")
    rows = sorted((json.loads(message.value()) for message in read(f"{PREFIX}_big", 10)), key=lambda each: each["n"])
    check(rows == [{"n": number, "name": f"row-{number}"} for number in range(90, 100)], f"the results are {rows}")
    send(producer(), EVENTS, [(None, row(number), None, 0) for number in range(100, 105)])
    rows = sorted(json.loads(message.value())["n"] for message in read(f"{PREFIX}_big", 15))
    check(rows == list(range(90, 105)), f"the results are {rows}")


def sql_owned():
    try:
        send(producer(), f"{PREFIX}_big", [(None, "{}", None, 0)])
    except KafkaException as error:
        check(error.args[0].code() == KafkaError.POLICY_VIOLATION, f"writing to a stream's topic gave {error}")
        return
    check(False, "a record from outside was accepted in a stream's topic")


STEPS = [("create_topic", create_topic)]
STEPS += [(f"produce_{codec}", lambda codec=codec: produce(codec)) for codec in CODECS]
STEPS += [("consume_all", consume_all), ("idempotent", idempotent), ("offsets", offsets), ("group_of_two", group_of_two),
          ("commit", commit), ("restart_resume", restart_resume), ("configs", configs), ("partitions", partitions),
          ("groups", groups), ("delete_records", delete_records), ("delete_topic", delete_topic)]
if WITH_SQL:
    STEPS += [("sql_register", sql_register), ("sql_refused", sql_refused), ("sql_answers", sql_answers),
              ("sql_results", sql_results), ("sql_owned", sql_owned)]

for name, step in STEPS:
    try:
        step()
        print(f"ok {name}", flush=True)
    except Exception as error:  # every failure becomes one line of the report
        traceback.print_exc()
        print(f"FAIL {name}: {type(error).__name__}: {' '.join(str(error).split())}", flush=True)

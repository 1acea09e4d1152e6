"""The shared list of steps with Apache Kafka's own command-line tools, by their Java main classes. See protocol-tests/README.md.

Usage: client.py BOOTSTRAP PREFIX sql|nosql, with the folder of Kafka's jars in $KAFKA_HOME.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

BOOTSTRAP, PREFIX, WITH_SQL = sys.argv[1], sys.argv[2], sys.argv[3] == "sql"
KAFKA_HOME = os.environ["KAFKA_HOME"]
LOGGING = Path(__file__).resolve().parent.parent / "java" / "log4j2.properties"
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
PER_CODEC = 60
STEP_SECONDS = 60
MAIN, IDEMPOTENT, GROUP_TOPIC, EVENTS, GROUP, BIG = (f"{PREFIX}_{name}" for name in ("main", "idem", "group", "events", "members", "big"))
FOLDER = Path(tempfile.mkdtemp(prefix="kafka-tools-"))

TOPICS = "org.apache.kafka.tools.TopicCommand"
CONFIGS = "kafka.admin.ConfigCommand"
PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
OFFSETS = "org.apache.kafka.tools.GetOffsetShell"
DELETE_RECORDS = "org.apache.kafka.tools.DeleteRecordsCommand"
LOG_DIRS = "org.apache.kafka.tools.LogDirsCommand"
API_VERSIONS = "org.apache.kafka.tools.BrokerApiVersionsCommand"


class ToolFailed(Exception):
    """A tool ended with an error; the message is what it printed."""


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def wait(condition, what):
    deadline = time.monotonic() + STEP_SECONDS
    while not condition():
        check(time.monotonic() < deadline, f"not within {STEP_SECONDS} s: {what}")
        time.sleep(0.1)


def command(main, *arguments):
    return ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", f"-Dlog4j2.configurationFile={LOGGING}",
            "-cp", f"{KAFKA_HOME}/libs/*", main, "--bootstrap-server", BOOTSTRAP, *[str(each) for each in arguments]]


def tool(main, *arguments, text="", with_errors=True):
    """Runs a tool to its end and returns what it printed, its log too unless told otherwise."""
    done = subprocess.run(command(main, *arguments), input=text, text=True, capture_output=True, timeout=STEP_SECONDS)
    if done.returncode != 0:
        raise ToolFailed((done.stdout + done.stderr).strip())
    return done.stdout + done.stderr if with_errors else done.stdout


def produce_lines(topic, lines, *arguments):
    """The console producer; it logs what the broker refused and ends as if nothing was, so its output is returned."""
    return tool(PRODUCER, "--topic", topic, *arguments, text="\n".join(lines) + "\n")


def send(topic, lines, *arguments):
    said = produce_lines(topic, lines, *arguments)
    check("Exception" not in said and "ERROR" not in said, f"the console producer says: {said}")


def consume(topic, count, *arguments, group=None):
    who = ["--group", group] if group else []
    said = tool(CONSUMER, "--topic", topic, "--from-beginning", "--max-messages", count, "--timeout-ms", STEP_SECONDS * 500, *who, *arguments,
                with_errors=False)
    return said.splitlines()


def create_topic():
    tool(TOPICS, "--create", "--topic", MAIN, "--partitions", 4, "--replication-factor", 1, "--config", "retention.ms=86400000")
    tool(TOPICS, "--create", "--topic", GROUP_TOPIC, "--partitions", 4)
    tool(TOPICS, "--create", "--topic", IDEMPOTENT, "--partitions", 1)
    try:
        tool(TOPICS, "--create", "--topic", MAIN, "--partitions", 4)
        check(False, "the second creation of a topic was not refused")
    except ToolFailed as error:
        check(f"'{MAIN}' already exists" in str(error), f"the second creation gave {error}")
    described = tool(TOPICS, "--describe", "--topic", MAIN)
    check("PartitionCount: 4" in described and "retention.ms=86400000" in described and described.count("Leader: 1") == 4, described)
    listed = tool(TOPICS, "--list").split()
    check(MAIN in listed and IDEMPOTENT in listed, f"listed are {listed}")


def produce(codec):
    lines = [f"codec:{codec},n:{i}\t{codec}-{i}\t{codec} value {i} {'abcdefgh' * 25}" for i in range(PER_CODEC)]
    send(MAIN, lines, "--compression-codec", codec, "--reader-property", "parse.key=true", "--reader-property", "parse.headers=true")


def consume_all():
    lines = consume(MAIN, PER_CODEC * len(CODECS), "--formatter-property", "print.key=true", "--formatter-property", "print.headers=true",
                    "--formatter-property", "print.partition=true")
    seen, last = set(), {}
    for line in lines:
        partition, headers, key, value = line.split("\t")
        codec, number = key.split("-")
        check(headers == f"codec:{codec},n:{number}", f"headers {headers} of {key}")
        check(value.startswith(f"{codec} value {number} abc"), f"value of {key}")
        check(key not in seen, f"{key} came twice")
        seen.add(key)
        check(last.get((partition, codec), -1) < int(number), f"order in {partition}")
        last[partition, codec] = int(number)
    check(len(seen) == PER_CODEC * len(CODECS), f"{len(seen)} records")


def idempotent():
    # The console producer is idempotent unless told otherwise.
    send(IDEMPOTENT, [str(i) for i in range(500)], "--command-property", "batch.size=100", "--command-property", "linger.ms=0")
    check(consume(IDEMPOTENT, 500) == [str(i) for i in range(500)], "the records are not 0 to 499 in order")


def topic_offsets(time_or_name):
    found = tool(OFFSETS, "--topic", MAIN, "--time", time_or_name)
    return [int(line.rsplit(":", 1)[1]) for line in found.splitlines() if re.fullmatch(rf"{MAIN}:\d+:-?\d*", line)]


def offsets():
    check(topic_offsets("earliest") == [0] * 4, f"earliest {topic_offsets('earliest')}")
    check(sum(topic_offsets("latest")) == PER_CODEC * len(CODECS), f"latest {topic_offsets('latest')}")
    check(0 <= sum(topic_offsets("max-timestamp")) < PER_CODEC * len(CODECS), "the offsets of the highest timestamps")
    check(topic_offsets(1000) == [0] * 4, "offsets for the year 1970")


class Member:
    """A console consumer in the group."""

    def __init__(self):
        self.process = subprocess.Popen(
            command(CONSUMER, "--topic", GROUP_TOPIC, "--group", GROUP, "--from-beginning", "--command-property", "session.timeout.ms=6000",
                    "--command-property", "heartbeat.interval.ms=500", "--command-property", "auto.commit.interval.ms=200"),
            stdout=subprocess.PIPE, stderr=sys.stderr, stdin=subprocess.DEVNULL, text=True)
        self.values = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            if not line.startswith("Processed a total"):
                self.values.append(line.strip())

    def leave(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(STEP_SECONDS)


state = {}


def post(name, count):
    # Records without a key stick to one partition for a batch; keys spread them.
    send(GROUP_TOPIC, [f"{name}{i}\t{name}{i}" for i in range(count)], "--reader-property", "parse.key=true")


def expected(name, count):
    return sorted(f"{name}{i}" for i in range(count))


def members():
    """Partitions owned, one number a member."""
    said = tool(GROUPS, "--describe", "--group", GROUP, "--members")
    rows = [line.split() for line in said.splitlines() if line.startswith(GROUP)]
    return sorted(int(row[4]) for row in rows)


def group_of_two():
    first = state["first"] = Member()
    wait(lambda: members() == [4], "the first member owns 4 partitions")
    second = Member()
    wait(lambda: members() == [2, 2], "each member owns 2 partitions")
    post("a", 100)
    wait(lambda: len(first.values) + len(second.values) >= 100, "the members got 100 records")
    check(sorted(first.values + second.values) == expected("a", 100) and first.values and second.values, "the members' records")
    time.sleep(0.5)
    second.leave()
    wait(lambda: members() == [4], "the first member owns all again after the second left")
    first.values.clear()
    post("b", 20)
    wait(lambda: len(first.values) >= 20, "the first member got 20 more")
    check(sorted(first.values) == expected("b", 20), f"after the rebalance came {first.values}")


def committed():
    """(committed, log end) summed over the partitions, as kafka-consumer-groups shows them."""
    rows = [line.split() for line in tool(GROUPS, "--describe", "--group", GROUP).splitlines() if line.startswith(GROUP)]
    return sum(int(row[3]) for row in rows if row[3] != "-"), sum(int(row[4]) for row in rows)


def commit():
    wait(lambda: committed() == (120, 120), "120 records are committed")


def restart_resume():
    first = state["first"]
    first.values.clear()
    print("REQUEST restart", flush=True)
    check(sys.stdin.readline().strip() == "restarted", "the runner could not restart the broker")
    post("c", 20)
    wait(lambda: len(first.values) >= 20, "the member got 20 records after the restart")
    check(sorted(first.values) == expected("c", 20), f"after the restart came {first.values}")
    wait(lambda: committed() == (140, 140), "140 records are committed")
    first.leave()
    post("d", 4)
    check(sorted(consume(GROUP_TOPIC, 4, group=GROUP)) == expected("d", 4), "a new member did not start at the committed offsets")


def configs():
    before = tool(CONFIGS, "--describe", "--entity-type", "topics", "--entity-name", MAIN, "--all")
    check("retention.ms=86400000" in before and "cleanup.policy=delete" in before and "segment.bytes=1073741824" in before, before)
    tool(CONFIGS, "--alter", "--entity-type", "topics", "--entity-name", MAIN, "--add-config", "retention.ms=3600000,max.message.bytes=2000000")
    after = tool(CONFIGS, "--describe", "--entity-type", "topics", "--entity-name", MAIN)
    check("retention.ms=3600000" in after and "max.message.bytes=2000000" in after, after)
    tool(CONFIGS, "--alter", "--entity-type", "topics", "--entity-name", MAIN, "--delete-config", "max.message.bytes")
    try:
        tool(CONFIGS, "--alter", "--entity-type", "topics", "--entity-name", MAIN, "--add-config", "retention.ms=soon")
        check(False, "retention.ms=soon was accepted")
    except ToolFailed as error:
        check("InvalidConfigurationException" in str(error), f"retention.ms=soon gave {error}")
    check("num.partitions=" in tool(CONFIGS, "--describe", "--entity-type", "brokers", "--entity-name", 1, "--all"), "the broker's configs")
    versions = tool(API_VERSIONS)
    check("Produce(0)" in versions and "UNSUPPORTED" in versions or "Fetch(1)" in versions, versions)


def partitions():
    tool(TOPICS, "--alter", "--topic", MAIN, "--partitions", 6)
    check("PartitionCount: 6" in tool(TOPICS, "--describe", "--topic", MAIN), "6 partitions are described")


def groups():
    check(GROUP in tool(GROUPS, "--list").split(), "the group is not listed")
    check("Empty" in tool(GROUPS, "--describe", "--group", GROUP, "--state"), "the group is not empty")
    tool(GROUPS, "--reset-offsets", "--group", GROUP, "--topic", GROUP_TOPIC, "--to-earliest", "--execute")
    check(committed()[0] == 0, f"after the reset {committed()}")
    tool(GROUPS, "--delete-offsets", "--group", GROUP, "--topic", GROUP_TOPIC)
    tool(GROUPS, "--delete", "--group", GROUP)
    check(GROUP not in tool(GROUPS, "--list").split(), "the group is still listed")


def delete_records():
    wanted = FOLDER / "delete.json"
    wanted.write_text(json.dumps({"version": 1, "partitions": [{"topic": MAIN, "partition": 0, "offset": 5}]}))
    said = tool(DELETE_RECORDS, "--offset-json-file", wanted)
    check("low_watermark: 5" in said, said)
    check(topic_offsets("earliest")[0] == 5, "the start after the deletion")
    folders = json.loads([line for line in tool(LOG_DIRS, "--describe", "--topic-list", GROUP_TOPIC).splitlines() if line.startswith("{")][0])
    described = [each for folder in folders["brokers"][0]["logDirs"] for each in folder["partitions"]]
    check(len(described) == 4 and all(each["size"] > 0 for each in described), f"kafka-log-dirs says {folders}")


def delete_topic():
    tool(TOPICS, "--delete", "--topic", MAIN)
    check(MAIN not in tool(TOPICS, "--list").split(), "the topic is still listed")


def row(number):
    return json.dumps({"n": number, "name": f"row-{number}", "price": number / 2})


def statement(name, sql):
    return produce_lines("_millpond_sql", [f"from:tools\t{PREFIX}-{name}\t{sql}"], "--reader-property", "parse.key=true",
                         "--reader-property", "parse.headers=true")


def sql_register():
    send(EVENTS, [row(number) for number in range(100)])
    said = statement("good", f"CREATE MATERIALIZED STREAM {BIG} AS SELECT n, name FROM {EVENTS} WHERE n >= 90")
    check("Exception" not in said, said)


def sql_refused():
    said = statement("bad", f"CREATE MATERIALIZED STREAM {PREFIX}_bad AS SELECT nmae FROM {EVENTS}")
    check("InvalidRecordException" in said and "nmae" in said and "line 1" in said, f"the console producer says: {said}")


def answer(name):
    deadline = time.monotonic() + STEP_SECONDS
    while time.monotonic() < deadline:
        said = tool(CONSUMER, "--topic", "_millpond_answers", "--from-beginning", "--timeout-ms", 2000, "--formatter-property", "print.key=true",
                    "--formatter-property", "print.headers=true", with_errors=False)
        for line in said.splitlines():
            parts = line.split("\t")
            if len(parts) == 3 and parts[1] == f"{PREFIX}-{name}":
                check("from:tools" in parts[0], f"the answer's headers are {parts[0]}")
                return json.loads(parts[2])
    raise AssertionError(f"no answer for {name}")


def sql_answers():
    error = answer("bad")["error"]
    check("nmae" in error["message"] and error["line"] == 1 and error["column"] > 1, f"the refusal says {error}")
    statement("show", "SHOW STREAMS")
    check(BIG in json.dumps(answer("show")["rows"]), "SHOW STREAMS does not name the stream")


def sql_results():
    for end in (100, 105):
        if end == 105:
            send(EVENTS, [row(number) for number in range(100, 105)])
        came = sorted(json.loads(line)["n"] for line in consume(BIG, end - 90))
        check(came == list(range(90, end)), f"the results are {came}")


def sql_owned():
    said = produce_lines(BIG, ["{}"])
    check("PolicyViolationException" in said and BIG in said, f"the console producer says: {said}")


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

"""The shared list of steps with kcat, as far as it goes: kcat has no administration. See protocol-tests/README.md."""

import json
import subprocess
import sys
import threading
import time
import traceback

BOOTSTRAP, PREFIX, WITH_SQL = sys.argv[1], sys.argv[2], sys.argv[3] == "sql"
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
PER_CODEC = 60
STEP_SECONDS = 30
MAIN, IDEMPOTENT, GROUP_TOPIC, EVENTS, GROUP, BIG = (f"{PREFIX}_{name}" for name in ("main", "idem", "group", "events", "members", "big"))


class KcatFailed(Exception):
    """kcat ended with an error; the message is what it printed."""


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def wait(condition, what):
    deadline = time.monotonic() + STEP_SECONDS
    while not condition():
        check(time.monotonic() < deadline, f"not within {STEP_SECONDS} s: {what}")
        time.sleep(0.05)


def kcat(*arguments, text=None):
    done = subprocess.run(["kcat", "-b", BOOTSTRAP, *arguments], input=text, text=True, capture_output=True, timeout=STEP_SECONDS * 2,
                          **({} if text is not None else {"stdin": subprocess.DEVNULL}))
    if done.returncode != 0:
        raise KcatFailed(done.stderr.strip())
    return done.stdout


def produce_lines(topic, lines, *arguments):
    kcat("-P", "-t", topic, "-X", "acks=all", "-X", "message.timeout.ms=20000", *arguments, text="\n".join(lines) + "\n")


def read(topic, partition=None):
    """Every record of a topic, as kcat's JSON envelope."""
    where = [] if partition is None else ["-p", str(partition)]
    return [json.loads(line) for line in kcat("-C", "-t", topic, "-o", "beginning", "-e", "-q", "-J", *where).splitlines()]


def create_topic():
    produce_lines(MAIN, ["the first record makes the topic"], "-p", "0")
    listed = json.loads(kcat("-L", "-J", "-t", MAIN))
    partitions = listed["topics"][0]["partitions"]
    check(len(partitions) == 4, f"auto-creation made {len(partitions)} partitions instead of num.partitions = 4")
    check(len(listed["brokers"]) == 1 and listed["brokers"][0]["name"] == BOOTSTRAP, f"brokers: {listed['brokers']}")


def produce(codec):
    for header in range(2):  # kcat gives one invocation's records the same headers
        lines = [f"{codec}-{i}:{codec} value {i} {'abcdefgh' * 25}" for i in range(header, PER_CODEC, 2)]
        produce_lines(MAIN, lines, "-K", ":", "-z", codec, "-H", f"codec={codec}", "-H", f"odd={header}")


def consume_all():
    got = [message for message in read(MAIN) if message.get("key")]
    check(len(got) == PER_CODEC * len(CODECS), f"{len(got)} records")
    seen, last = set(), {}
    for message in got:
        codec, number = message["key"].split("-")
        check(message["headers"] == ["codec", codec, "odd", str(int(number) % 2)], f"headers {message['headers']} of {message['key']}")
        check(message["payload"].startswith(f"{codec} value {number} abc"), f"value of {message['key']}")
        check(message["key"] not in seen, f"{message['key']} came twice")
        seen.add(message["key"])
        place = (message["partition"], codec, int(number) % 2)
        check(last.get(place, -1) < int(number), f"order in {place}")
        last[place] = int(number)


def idempotent():
    produce_lines(IDEMPOTENT, [str(i) for i in range(500)], "-p", "0", "-X", "enable.idempotence=true", "-X", "batch.num.messages=7")
    check([message["payload"] for message in read(IDEMPOTENT)] == [str(i) for i in range(500)], "the records are not 0 to 499 in order")


def offsets():
    def at(time_ms):
        found = kcat("-Q", *[part for partition in range(4) for part in ("-t", f"{MAIN}:{partition}:{time_ms}")])
        return [int(line.split()[-1]) for line in found.splitlines() if line.strip()]
    check(at(-2) == [0] * 4, f"earliest offsets {at(-2)}")
    check(sum(at(-1)) == PER_CODEC * len(CODECS) + 1, f"latest offsets {at(-1)}")
    check(at(1000) == [0] * 4, f"offsets for the year 1970: {at(1000)}")
    # -1, "the end", is librdkafka's word for: no record is that young
    check(set(at(int((time.time() + 86400) * 1000))) == {-1}, "offsets for tomorrow")


class Member:
    """`kcat -G`: a group member; its offsets are committed as it goes and when it ends."""

    def __init__(self):
        self.process = subprocess.Popen(
            ["kcat", "-b", BOOTSTRAP, "-G", GROUP, "-u", "-q", "-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=6000",
             "-X", "heartbeat.interval.ms=500", "-X", "auto.commit.interval.ms=200", "-f", "%p %s\n", GROUP_TOPIC],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        self.values, self.partitions, self.errors = [], set(), []
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._read_errors, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            partition, value = line.split()
            self.partitions.add(int(partition))
            self.values.append(value)

    def _read_errors(self):
        for line in self.process.stderr:
            self.errors.append(line.strip())

    def leave(self):
        self.process.terminate()
        self.process.wait(STEP_SECONDS)


state = {}


def post(name, count):
    for partition in range(4):
        produce_lines(GROUP_TOPIC, [f"{name}{i}" for i in range(partition, count, 4)], "-p", str(partition))


def expected(name, count):
    return sorted(f"{name}{i}" for i in range(count))


def group_of_two():
    post("a", 100)
    first = state["first"] = Member()
    wait(lambda: len(first.values) >= 100, f"the first member got 100 records {first.errors}")
    check(sorted(first.values) == expected("a", 100), "the first member's records")
    time.sleep(1)  # the automatic commit
    second = Member()
    # Neither member says what it owns when it is quiet: records tell.
    shared = []

    def both():
        post(f"s{len(shared)}-", 4)
        shared.append(4)
        time.sleep(0.5)
        return second.partitions and not second.partitions & new_of_first()

    def new_of_first():
        latest = f"s{len(shared) - 1}-"
        return {int(value[len(latest):]) % 4 for value in first.values if value.startswith(latest)}
    wait(both, f"the second member owns partitions of its own {second.errors}")
    check(len(second.partitions) == 2, f"the second member has {second.partitions}")
    wait(lambda: len(first.values) + len(second.values) == 100 + sum(shared), "all shared records came once")
    time.sleep(1)
    second.leave()
    first.values.clear()
    post("b", 20)
    wait(lambda: len(first.values) >= 20, "the first member got 20 more after the second left")
    check(sorted(first.values) == expected("b", 20), f"after the rebalance came {first.values}")


def commit():
    time.sleep(1)
    state["first"].leave()
    again = state["first"] = Member()
    post("e", 4)
    wait(lambda: len(again.values) >= 4, f"a new member goes on {again.errors}")
    time.sleep(0.5)
    check(sorted(again.values) == expected("e", 4), f"the new member did not start at the committed offsets: {again.values}")


def restart_resume():
    time.sleep(1)  # the automatic commit
    state["first"].leave()  # kcat gives up when its broker goes away
    print("REQUEST restart", flush=True)
    check(sys.stdin.readline().strip() == "restarted", "the runner could not restart the broker")
    post("c", 20)
    second = Member()
    wait(lambda: len(second.values) >= 20, f"a member got 20 records after the restart {second.errors}")
    time.sleep(0.5)
    check(sorted(second.values) == expected("c", 20), f"after the restart came {second.values}")
    second.leave()


def row(number):
    return json.dumps({"n": number, "name": f"row-{number}", "price": number / 2})


def statement(name, sql):
    produce_lines("_millpond_sql", [f"{PREFIX}-{name}|{sql}"], "-K", "|", "-H", "from=kcat", "-p", "0")


def sql_register():
    produce_lines(EVENTS, [row(number) for number in range(100)], "-p", "0")
    statement("good", f"CREATE MATERIALIZED STREAM {BIG} AS SELECT n, name FROM {EVENTS} WHERE n >= 90")


def sql_refused():
    # kcat shows librdkafka's text for INVALID_RECORD, not the broker's message; that one stands in the answers.
    try:
        statement("bad", f"CREATE MATERIALIZED STREAM {PREFIX}_bad AS SELECT nmae FROM {EVENTS}")
    except KcatFailed as error:
        check("failed to validate record" in str(error), f"the wrong statement gave: {error}")
        return
    check(False, "the wrong statement was accepted")


def answer(name):
    deadline = time.monotonic() + STEP_SECONDS
    while time.monotonic() < deadline:
        for message in read("_millpond_answers"):
            if message["key"] == f"{PREFIX}-{name}":
                check(message["headers"][:2] == ["from", "kcat"], f"the answer's headers are {message['headers']}")
                return json.loads(message["payload"])
    raise AssertionError(f"no answer for {name}")


def sql_answers():
    error = answer("bad")["error"]
    check("nmae" in error["message"] and error["line"] == 1 and error["column"] > 1, f"the refusal says {error}")
    statement("show", "SHOW STREAMS")
    check(BIG in json.dumps(answer("show")["rows"]), "SHOW STREAMS does not name the stream")


def results():
    return sorted(json.loads(message["payload"])["n"] for message in read(BIG))


def sql_results():
    wait(lambda: results() == list(range(90, 100)), "the 10 results")
    produce_lines(EVENTS, [row(number) for number in range(100, 105)], "-p", "0")
    wait(lambda: results() == list(range(90, 105)), "5 more results")


def sql_owned():
    try:
        produce_lines(BIG, ["{}"], "-p", "0")
    except KcatFailed as error:
        check("policy" in str(error).lower(), f"writing to a stream's topic gave: {error}")
        return
    check(False, "a record from outside was accepted in a stream's topic")


STEPS = [("create_topic", create_topic)]
STEPS += [(f"produce_{codec}", lambda codec=codec: produce(codec)) for codec in CODECS]
STEPS += [("consume_all", consume_all), ("idempotent", idempotent), ("offsets", offsets), ("group_of_two", group_of_two),
          ("commit", commit), ("restart_resume", restart_resume)]
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

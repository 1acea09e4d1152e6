"""1,000 records of garbage into `_millpond_sql`: each is refused, and the node serves on, over a restart too.

Usage: garbage.py BOOTSTRAP PREFIX sql. The seed is fixed, so that a failure comes back.
"""

import json
import random
import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

BOOTSTRAP, PREFIX = sys.argv[1:3]
RECORDS = 1000
STEP_SECONDS = 60
SOURCE = [
    f"CREATE STREAM {PREFIX}_s (a BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH (topic = 't', format = 'json')",
    f"CREATE MATERIALIZED STREAM {PREFIX}_m AS SELECT a, COUNT(*) FROM TABLE(TUMBLE(TABLE s, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY a",
    "SELECT * FROM a JOIN b ON a.x = b.y WHERE c LIKE '%' ORDER BY 1 LIMIT 3", "DROP STREAM x", "EXPLAIN SELECT 1 / 0", "DESCRIBE y", "PAUSE STREAM z",
]


def garbage(chance):
    """One record: random bytes, mangled SQL, deep nesting, nothing at all."""
    kind = chance.randrange(6)
    if kind == 0:
        return chance.randbytes(chance.randrange(0, 400))
    if kind == 1:
        return None
    if kind == 2:
        return ("SELECT " + "(" * chance.randrange(1, 20_000)).encode()
    if kind == 3:
        return ("SELECT " + " + ".join(["1"] * chance.randrange(1, 3000)) + " FROM nothing_of_this_name").encode()
    text = bytearray(chance.choice(SOURCE).encode())
    for _ in range(chance.randrange(1, 8)):
        place = chance.randrange(len(text))
        if chance.random() < 0.5:
            del text[place:place + chance.randrange(1, 12)]
        else:
            text[place:place] = chance.choice([b"\x00", b"'", b'"', b"(", b")", b";", b" FROM ", b"\xff\xfe", b"SELECT", b"9" * 400, "ü".encode()])
        if not text:
            break
    return bytes(text) + b" !garbage!"  # what is left of it is never a statement


def send(values):
    """Sends each value in a batch of its own; returns how many were accepted and the codes of the refusals."""
    accepted, codes = 0, {}

    def delivered(error, _):
        nonlocal accepted
        if error is None:
            accepted += 1
        else:
            codes[error.name()] = codes.get(error.name(), 0) + 1
    client = Producer({"bootstrap.servers": BOOTSTRAP, "acks": "all", "batch.num.messages": 1, "message.timeout.ms": STEP_SECONDS * 1000, "log_level": 0})
    for value in values:
        client.produce("_millpond_sql", value, PREFIX, on_delivery=delivered)
        client.poll(0)
    left = client.flush(STEP_SECONDS)
    if left:
        raise AssertionError(f"{left} records were not answered within {STEP_SECONDS} s")
    return accepted, codes


def serves():
    """A statement is answered with its rows."""
    reader = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": PREFIX, "log_level": 0})
    place = TopicPartition("_millpond_answers", 0)
    _, end = reader.get_watermark_offsets(place, 20)
    reader.assign([TopicPartition("_millpond_answers", 0, end)])
    accepted, codes = send([b"SHOW STREAMS"])
    if accepted != 1:
        raise AssertionError(f"SHOW STREAMS was refused: {codes}")
    deadline = time.monotonic() + STEP_SECONDS
    try:
        while time.monotonic() < deadline:
            message = reader.poll(0.2)
            if message is not None and not message.error() and json.loads(message.value()).get("statement") == "SHOW STREAMS":
                return
    finally:
        reader.close()
    raise AssertionError("SHOW STREAMS has no answer")


def refused():
    chance = random.Random(20260101)
    accepted, codes = send([garbage(chance) for _ in range(RECORDS)])
    if accepted or set(codes) != {"INVALID_RECORD"}:
        raise AssertionError(f"{accepted} of {RECORDS} were accepted; refusals: {codes}")
    serves()


def restarted():
    print("REQUEST restart", flush=True)
    if sys.stdin.readline().strip() != "restarted":
        raise AssertionError("the runner could not restart the broker")
    serves()


for name, step in (("garbage_refused", refused), ("garbage_restart", restarted)):
    try:
        step()
        print(f"ok {name}", flush=True)
    except (AssertionError, KafkaException, ValueError) as error:
        print(f"FAIL {name}: {type(error).__name__}: {' '.join(str(error).split())}", flush=True)

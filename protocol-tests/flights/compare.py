"""The flights of 2013 by hour and carrier: a TUMBLE stream, the same query as a one-time SELECT, and pandas over the same file.

Started by flights/run. Three partitions, so that the watermark is a minimum; the stream is registered before the flights come, so that
they pass through it live. A last flight in the far future in each partition closes every window.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "crates" / "millpond" / "demo"))

import pandas  # noqa: E402
from confluent_kafka import Consumer, Producer, TopicPartition  # noqa: E402

import flights  # noqa: E402
from harness import brokers, paths, processes  # noqa: E402

TOPIC, STREAM, PARTITIONS = "flights", "departures_by_hour", 3
CLOSING_CARRIER = "closing"
RESULT_SECONDS = 120
DECLARATION = """CREATE STREAM flights (departure TIMESTAMP(3), carrier STRING, dep_delay BIGINT, distance BIGINT,
    WATERMARK FOR departure AS departure - INTERVAL '1' MINUTE) WITH (topic = 'flights', format = 'json')"""
QUERY = """SELECT window_start, carrier, COUNT(*) AS flights, COUNT(dep_delay) AS departed, SUM(dep_delay) AS delay, MAX(distance) AS farthest
FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(departure), INTERVAL '1' HOUR)) GROUP BY window_start, window_end, carrier"""


def main() -> int:
    source = flights.cached(paths.CACHE / "demo")
    folder = Path(tempfile.mkdtemp(prefix="millpond-flights-"))
    broker, problems = brokers.Millpond(folder, settings=[f"num.partitions={PARTITIONS}"]), []
    try:
        broker.start()
        compare(broker, source, problems)
    except (processes.CommandFailed, TimeoutError, OSError, AssertionError) as error:
        problems.append(f"{type(error).__name__}: {error}")
    finally:
        if broker.process is not None:
            broker.stop()
    for problem in problems:
        print(f"FAIL {problem}")
    if problems:
        print(f"The broker's last words:\n{broker.log_tail()}\nIts folder: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{2 - min(len(problems), 2)} passed, {len(problems)} failed")
    return 1 if problems else 0


def compare(broker, source, problems):
    """Feeds the flights, then takes the three results."""
    subprocess.run(["kcat", "-L", "-b", broker.bootstrap, "-t", TOPIC], check=True, timeout=30, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    statement(broker, DECLARATION)
    statement(broker, f"CREATE MATERIALIZED STREAM {STREAM} AS {QUERY}")
    client = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": 5, "log_level": 0})
    with source.open("rb") as lines:
        for number, line in enumerate(lines):
            put(client, line.strip(), number % PARTITIONS)
    for partition in range(PARTITIONS):
        closing = {"departure": "2014-12-31T00:00:00.000", "carrier": CLOSING_CARRIER, "dep_delay": 0, "distance": 0}
        put(client, json.dumps(closing).encode(), partition)
    if client.flush(60):
        raise AssertionError("not every flight was acknowledged")
    expected = by_pandas(source)
    for name, rows in (("the stream", by_stream(broker, len(expected))), ("the one-time SELECT", by_select(broker))):
        if rows != expected:
            wrong = [(key, rows.get(key), expected.get(key)) for key in sorted(rows.keys() | expected.keys()) if rows.get(key) != expected.get(key)]
            problems.append(f"{name} has {len(rows)} rows, pandas {len(expected)}; {len(wrong)} differ, the first: {wrong[0]} (hour and carrier, its values, pandas')")
        else:
            print(f"{name}: {len(rows)} rows, equal to pandas'", flush=True)


def put(client, value, partition):
    """Produces one flight, waiting while the queue is full."""
    while True:
        try:
            client.produce(TOPIC, value, partition=partition)
            return
        except BufferError:
            client.poll(0.1)


def statement(broker, sql):
    """Registers by producing to the admin topic."""
    errors = []
    client = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all", "message.timeout.ms": 30000, "log_level": 0})
    client.produce("_millpond_sql", sql, on_delivery=lambda error, _: errors.append(str(error)) if error else None)
    if client.flush(40) or errors:
        raise AssertionError(f"the statement was not accepted: {errors}: {sql}")


def row_key(row):
    """(hour and carrier, values) of one result."""
    return (row["window_start"].replace(" ", "T")[:13], row["carrier"]), (row["flights"], row["departed"], row["delay"], row["farthest"])


def by_pandas(source) -> dict:
    """The independent computation."""
    table = pandas.read_json(source, lines=True, dtype={"departure": "str"})
    table["hour"] = table["departure"].str[:13]
    grouped = table.groupby(["hour", "carrier"]).agg(
        flights=("carrier", "size"), departed=("dep_delay", "count"), delay=("dep_delay", "sum"), farthest=("distance", "max"))
    # SQL's sum over nothing but NULLs is NULL.
    return {key: (int(row.flights), int(row.departed), int(row.delay) if row.departed else None, int(row.farthest))
            for key, row in zip(grouped.index, grouped.itertuples(index=False))}


def by_stream(broker, expected) -> dict:
    """The stream's topic, once as many rows have come as there should be, and a little longer for surplus ones."""
    reader = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "flights", "enable.auto.commit": False, "log_level": 0})
    try:
        reader.assign([TopicPartition(STREAM, partition, 0) for partition in reader.list_topics(STREAM, 20).topics[STREAM].partitions])
        rows, deadline, surplus_until = {}, time.monotonic() + RESULT_SECONDS, None
        while time.monotonic() < (surplus_until or deadline):
            message = reader.poll(0.2)
            if message is None or message.error():
                continue
            key, values = row_key(json.loads(message.value()))
            if key in rows:
                raise AssertionError(f"the stream gave {key} twice")
            rows[key] = values
            if len(rows) >= expected and surplus_until is None:
                surplus_until = time.monotonic() + 1
        return rows
    finally:
        reader.close()


def by_select(broker) -> dict:
    """The same query over what is in the topic now, without the flights that only close windows."""
    request = urllib.request.Request(f"http://{broker.http}/sql", data=QUERY.encode(), method="POST", headers={"Accept": "application/x-ndjson"})
    with urllib.request.urlopen(request, timeout=RESULT_SECONDS) as answer:
        lines = [json.loads(line) for line in answer.read().decode().splitlines()]
    if "done" not in lines[-1]:
        raise AssertionError(f"the SELECT ended with {lines[-1]}")
    rows = dict(row_key(line["row"]) for line in lines if "row" in line)
    return {key: values for key, values in rows.items() if key[1] != CLOSING_CARRIER}


if __name__ == "__main__":
    sys.exit(main())

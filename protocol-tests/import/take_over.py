"""Imports the data folder of a real Kafka, and looks whether its clients notice. Started by import/run; see there."""

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from confluent_kafka import KafkaException  # noqa: E402

import kafka_data  # noqa: E402
import refusals  # noqa: E402
from harness import brokers, paths, report  # noqa: E402

KAFKA = {"log.cleaner.backoff.ms": "200", "log.retention.check.interval.ms": "1000", "offsets.topic.num.partitions": "7",
         "transaction.state.log.num.partitions": "2", "share.coordinator.state.topic.num.partitions": "2"}
# Snapshots of the metadata after some records.
SNAPSHOTS = {"metadata.log.max.record.bytes.between.snapshots": "1500"}
MILLPOND = ["log.cleaner.backoff.ms=200", "log.cleaner.io.max.bytes.per.second=1e12"]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--keep", action="store_true")
    options = arguments.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="millpond-import-"))
    results, started = [], []
    try:
        for round_of in (after_a_clean_stop, after_a_kill):
            round_of(folder / round_of.__name__, results, started)
    except (AssertionError, TimeoutError, KafkaException, OSError, brokers.processes.CommandFailed) as error:
        results.append((f"not finished: {type(error).__name__}: {error}", False))
    finally:
        for broker in started:
            broker.stop()
    return report.conclude(results, folder, options.keep)


def run(*arguments):
    """Runs the binary; exit code, and what it said on both outputs."""
    done = subprocess.run([str(each) for each in (paths.millpond_binary(), *arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=300)
    return done.returncode, done.stdout


def take_over(source, target, *more):
    return run("import", "--from-kafka", source, "--data", target, *more)


def digest(folder):
    """Every file below a folder, with its bytes and the time of its last change."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files}


def started_on(target, bootstrap, folder, started):
    """A Millpond on the imported folder, at the address that Kafka had."""
    millpond = brokers.Millpond(folder, settings=MILLPOND)
    millpond.data, millpond.bootstrap = target, bootstrap
    started.append(millpond)
    millpond.start()
    return millpond


def compare(results, when, before, now):
    for what, expected in before.items():
        same = now[what] == expected
        detail = "" if same else f"; differing {sorted(map(str, expected.items() ^ now[what].items()))[:4] if what != 'records' else ''}"
        results.append((f"{when}: {what}{detail}", same))


def after_a_clean_stop(folder, results, started):
    """The whole way: import, serve, go on, compact, crash, verify."""
    kafka = brokers.Kafka(folder / "kafka", settings={**KAFKA, **SNAPSHOTS})
    started.append(kafka)
    kafka.start()
    producer = kafka_data.fill(kafka)
    before = kafka_data.look(kafka)
    target = folder / "imported"
    code, said = take_over(kafka.data, target)
    results.append(("a Kafka that runs is refused", code == 1 and "Kafka runs on" in said and "Stop it first" in said))
    results.append(("and nothing is written for it", not target.exists()))
    kafka.stop()
    assert (kafka.data / ".kafka_cleanshutdown").exists(), "Kafka did not stop cleanly"
    snapshots = [path.name for path in (kafka.data / "__cluster_metadata-0").glob("*.checkpoint")]
    results.append((f"there are snapshots of Kafka's metadata: {snapshots}", any(not name.startswith("0" * 20) for name in snapshots)))
    untouched = digest(kafka.data)
    code, said = take_over(kafka.data, target, "--dry-run")
    results.append(("a dry run tells what would be imported, and writes nothing", code == 0 and "dry run" in said and not target.exists()))
    refusals.run(kafka.data, folder / "refusals", take_over, results)
    code, said = take_over(kafka.data, target)
    print(said, flush=True)
    results.append(("Kafka's folder is imported", code == 0))
    results.append(("and stays as it was, byte for byte", digest(kafka.data) == untouched))
    results.append(("the report has all groups", "4 groups with" in said))
    told = ["retention.ms=900000000 of topic many", "log.retention.ms=700000000 of all brokers", "compression.lz4.level of topic codecs",
            "log.cleaner.threads of all brokers", "1 SCRAM credentials of users", "1 client quotas",
            "topic __transaction_state: "]
    results.append((f"and what was and was not taken over: {[each for each in told if each not in said]}", all(each in said for each in told)))
    verify(results, "after the import", target)
    transactions = before["records"]["transactions"][0].values()
    results.append(("what was aborted in Kafka is not among what is compared", [record[1][:1] for record in transactions] == [b"0"] * 200 + [b"2"] * 200))

    millpond = started_on(target, kafka.bootstrap, folder / "millpond", started)
    compare(results, "served by Millpond", before, kafka_data.look(millpond))
    results.append(("the idempotent producer goes on where it was", kafka_data.go_on(producer, range(200, 400)) == list(range(200, 400))))
    going_on = kafka_data.read(millpond, "going-on", 1)[0]
    results.append(("and nothing of it came twice", [int(record[1]) for record in going_on.values()] == list(range(400))))
    member = kafka_data.joined(millpond, "halfway")
    rest = kafka_data.read_some(member, 6_000 - 900)
    member.commit(asynchronous=False)
    member.close()
    # What was not committed begins at 0.
    first = {partition: min([offset for where, offset in rest if where == partition], default=2_000) for partition in range(3)}
    left_off = {partition: before["committed offsets"].get(("halfway", "many", partition), (0, None))[0] for partition in range(3)}
    results.append(("a group goes on where it had committed", first == left_off and len(set(rest)) == len(rest)))

    kafka_data.fill_compacted(millpond, "compacted", 1)
    latest = {key: value for key, value, *_ in kafka_data.read(millpond, "compacted", 1)[0].values()}
    kafka_data.settle(millpond, "compacted")
    compacted = kafka_data.read(millpond, "compacted", 1)[0]
    results.append(("compaction goes on, and keeps the newest of each key", {key: value for key, value, *_ in compacted.values()} == latest))
    now = kafka_data.look(millpond)
    millpond.restart()
    compare(results, "after a restart", now, kafka_data.look(millpond))
    millpond.kill()
    millpond.start()
    compare(results, "after kill -9", now, kafka_data.look(millpond))
    millpond.stop()
    verify(results, "after all that", target)
    code, said = take_over(kafka.data, target)
    results.append(("a node's folder is not imported over", code == 1 and "is not empty: it holds the data of a node" in said))


def after_a_kill(folder, results, started):
    """Kafka is killed, and a write was cut off."""
    kafka = brokers.Kafka(folder / "kafka", settings=KAFKA)
    started.append(kafka)
    kafka.start()
    kafka_data.fill(kafka)
    before = kafka_data.look(kafka)
    kafka.kill()
    active = max((kafka.data / "many-1").glob("*.log"))
    with active.open("ab") as log:
        log.write(active.read_bytes()[:100])
    target = folder / "imported"
    code, said = take_over(kafka.data, target)
    print(said, flush=True)
    results.append(("the folder of a killed Kafka is imported", code == 0 and "not stopped cleanly" in said))
    results.append(("and what was cut off is told", "many-1: 100 bytes of an unfinished write" in said))
    verify(results, "after the import", target)
    millpond = started_on(target, kafka.bootstrap, folder / "millpond", started)
    compare(results, "served by Millpond", before, kafka_data.look(millpond))
    millpond.stop()


def verify(results, when, target):
    code, said = run("log", "verify", "--data", target)
    results.append((f"millpond log verify finds nothing {when}: {'' if code == 0 else said[-1500:]}", code == 0))


if __name__ == "__main__":
    sys.exit(main())

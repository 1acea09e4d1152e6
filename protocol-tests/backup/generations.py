"""Takes generations of a node's data folder between bursts of load, and restores them. Started by backup/run; see there."""

import argparse
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "crash"))

from confluent_kafka import Consumer, KafkaException, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

import load  # noqa: E402
import storm  # noqa: E402
from harness import brokers, paths  # noqa: E402

GROUP = "backup-members"
# What the node does while a generation is taken, in turn.
NODES = ["running", "killed", "running", "stopped"]
SETTINGS = [f"{name}={value}" for name, value in storm.SETTINGS.items()]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--generations", type=int, default=len(NODES))
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    arguments.add_argument("--rate", type=int, default=800, help="records a second of each producer")
    arguments.add_argument("--keep", action="store_true")
    options = arguments.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="millpond-backup-"))
    problems = []
    print(f"seed {options.seed}, {options.generations} generations", flush=True)
    try:
        generations = take(folder, options, problems)
        for number, known in generations.items():
            restored(folder, number, known, problems)
        damaged(folder, random.Random(options.seed), problems)
        pruned(folder, len(generations), problems)
    except (TimeoutError, KafkaException, OSError, brokers.processes.CommandFailed) as error:
        problems.append(f"{type(error).__name__}: {error}")
    for problem in problems[:40]:
        print(f"FAIL {problem}")
    if problems:
        print(f"The folders: {folder}\nreplay with: protocol-tests/backup/run --generations {options.generations} --seed {options.seed} --rate {options.rate}")
    elif not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{0 if problems else 1} passed, {len(problems)} failed")
    return 1 if problems else 0


def millpond(*arguments):
    """Runs a command to its end."""
    return subprocess.run([paths.millpond_binary(), *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)


def done(*arguments) -> str:
    """The same; it must succeed."""
    ended = millpond(*arguments)
    if ended.returncode != 0:
        raise brokers.processes.CommandFailed(f"millpond {arguments}: exit code {ended.returncode}\n{ended.stdout}{ended.stderr}")
    return ended.stdout


def done_when_free(*arguments) -> str:
    """The same, once the node has noticed that the one who was killed is gone."""
    deadline = time.monotonic() + 30
    while True:
        ended = millpond(*arguments)
        if ended.returncode != 0 and "another backup of this node" in ended.stderr and time.monotonic() < deadline:
            time.sleep(0.1)
            continue
        if ended.returncode != 0:
            raise brokers.processes.CommandFailed(f"millpond {arguments}: exit code {ended.returncode}\n{ended.stdout}{ended.stderr}")
        return ended.stdout


def gone(path, seconds=10) -> bool:
    """Whether a file is gone, or goes soon."""
    deadline = time.monotonic() + seconds
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not path.exists()


def refused(problems, reason, *arguments):
    """It must fail, and say why."""
    ended = millpond(*arguments)
    if ended.returncode == 0 or not re.search(reason, ended.stdout + ended.stderr):
        problems.append(f"millpond {arguments} gave {ended.returncode}, not an error with {reason!r}: {ended.stdout}{ended.stderr}")


def take(folder, options, problems):
    """Load, with a generation after each burst. Gives what each one must hold, by its number."""
    chance = random.Random(options.seed)
    broker, backup = brokers.Millpond(folder / "node", settings=SETTINGS), folder / "backup"
    known = {}
    try:
        broker.start()
        admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
        topics = [NewTopic("lines", 1, 1), NewTopic("events", storm.EVENT_PARTITIONS, 1)]
        topics += [NewTopic(name, 1, 1, config=config) for name, config in storm.KEPT.items()]
        for made in admin.create_topics(topics).values():
            made.result(30)
        for statement in storm.DECLARATIONS:
            storm.register(broker, statement)
        for name, query in storm.QUERIES.items():
            storm.register(broker, f"CREATE MATERIALIZED STREAM storm_{name} AS {query}")
        producers = [load.IdempotentProducer(number, broker.bootstrap, storm.EVENT_PARTITIONS, options.rate, random.Random(chance.random()))
                     for number in range(storm.PRODUCERS)]
        keyed = load.KeyedProducer(storm.PRODUCERS, broker.bootstrap, 1, options.rate, random.Random(chance.random()))
        member = load.Watcher("member", broker.bootstrap, GROUP)
        member.subscribe(["lines", "events"])
        refused(problems, "would hold itself", "backup", broker.data / "inside", "--data", broker.data)
        if (broker.data / "inside").exists():
            problems.append("a backup that was refused has made a folder")
        for number in range(1, options.generations + 1):
            # Long enough for a checkpoint of the streams' state, now and then.
            time.sleep(chance.uniform(6, 8) if number % 2 else chance.uniform(1, 3))
            node = NODES[(number - 1) % len(NODES)]
            if node != "running":
                # A killed node leaves what it has not written down; its backup must hold that, too.
                broker.kill() if node == "killed" else broker.stop()
                time.sleep(0.3)
            known[number] = SimpleNamespace(
                producers=[SimpleNamespace(number=each.number, acknowledged=list(each.acknowledged)) for each in producers],
                keyed=SimpleNamespace(acknowledged=list(keyed.acknowledged)))
            killed_backups = sum(kill_a_backup(backup, broker.data, chance) for _ in range(3))
            began = time.monotonic()
            said = done_when_free("backup", backup, "--data", broker.data).strip()
            seconds = time.monotonic() - began
            # What was sent meanwhile may be there.
            for each, producer in zip(known[number].producers, producers):
                each.sent = producer.sent
            print(f"{node} node, {killed_backups} backups killed: {said} in {seconds:.1f} s", flush=True)
            # One that was killed too late is a generation, too, so they are not counted here.
            known[number].generation = int(re.match(r"generation (\d+)", said)[1])
            copied, shared = (int(re.search(rf"{word} (\d+)", said)[1]) for word in ("copied", "shared"))
            if copied + shared == 0:
                problems.append(f"a backup of nothing: {said}")
            if node == "running":
                left = [each for each in broker.data.glob(".frozen-*") if not gone(each)]
                if left:
                    problems.append(f"a backup has left {left} in the data folder")
                continue
            again = done("backup", backup, "--data", broker.data)
            if not re.search(r"copied 0,", again):
                problems.append(f"nothing had changed, and something was copied: {again}")
            broker.start()
        for producer in [*producers, keyed]:
            left = producer.end()
            if left or producer.failures:
                problems.append(f"producer {producer.number}: {left} records without an answer, failures: {producer.failures[:3]}")
        member.end()
    finally:
        if broker.process is not None:
            broker.stop()
    return {each.generation: each for each in known.values()}


def kill_a_backup(backup, data, chance) -> bool:
    """Begins a backup and kills it. Says whether it was in the middle."""
    process = subprocess.Popen([paths.millpond_binary(), "backup", str(backup), "--data", str(data)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(chance.uniform(0.005, 0.15))
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def restored(folder, number, known, problems):
    """A node on what was restored of a generation has everything, and goes on."""
    found = []
    node = folder / f"restored-{number}"
    broker = brokers.Millpond(node, settings=SETTINGS)
    done("restore", folder / "backup", "--data", broker.data, "--generation", number)
    try:
        broker.start()
        logs = {topic: load.read_all(broker.bootstrap, topic) for topic in ("lines", "events")}
        storm.check_log(known.producers, logs, found)
        storm.check_kept(broker, known.keyed, found)
        check_group(broker, logs, found)
        storm.check_streams(broker, known.producers, found)
        broker.restart()
    finally:
        if broker.process is not None:
            broker.stop()
    verified = millpond("log", "verify", "--data", broker.data)
    if verified.returncode != 0:
        found.append(f"log verify: {verified.stdout[-500:]}{verified.stderr[-500:]}")
    acknowledged = sum(len(each.acknowledged) for each in known.producers)
    print(f"generation {number}: {acknowledged} acknowledged before it, {len(found)} problems", flush=True)
    problems += [f"generation {number}: {each}" for each in found]


def check_group(broker, logs, problems):
    """The group's offsets are there, and none is behind its log's end."""
    reader = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": GROUP, "log_level": 0})
    try:
        places = [TopicPartition(topic, partition) for topic, partitions in logs.items() for partition in partitions]
        committed = {(each.topic, each.partition): each.offset for each in reader.committed(places, timeout=30)}
    finally:
        reader.close()
    for (topic, partition), offset in committed.items():
        end = logs[topic][partition][-1][0] + 1 if logs[topic][partition] else 0
        if not 0 < offset <= end:
            problems.append(f"the group has committed offset {offset} of {topic}-{partition}, which ends at {end}")


def damaged(folder, chance, problems):
    """One bit of a backup: it is not restored."""
    copy = folder / "damaged"
    shutil.copytree(folder / "backup", copy)
    manifests = sorted(copy.glob("generations/*.manifest"))
    newest = manifests[-1].read_text()
    pieces = [piece for piece in copy.glob("pieces/*/*") if piece.stat().st_size and piece.name in newest]
    for victim in [*chance.sample(pieces, 3), manifests[-1]]:
        before = victim.read_bytes()
        changed = bytearray(before)
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        victim.write_bytes(changed)
        refused(problems, "damaged", "restore", copy, "--data", folder / "none")
        refused(problems, "damaged", "backup", copy, "--verify")
        if (folder / "none").exists() or (folder / "none.restoring").exists():
            problems.append(f"something was restored of a backup with damage in {victim}")
        victim.write_bytes(before)
    done("backup", copy, "--verify")
    shutil.rmtree(copy)


def pruned(folder, generations, problems):
    """The last generation is whole when the others are gone."""
    said = done("backup", folder / "backup", "--data", folder / "node" / "data", "--keep", "1").strip()
    print(said.replace("\n", "; "), flush=True)
    if len(done("backup", folder / "backup", "--list").splitlines()) != 1 or not re.search(r"removed \d+ generations", said):
        problems.append(f"--keep 1 left more than one of {generations} generations: {said}")
    done("backup", folder / "backup", "--verify")


if __name__ == "__main__":
    sys.exit(main())

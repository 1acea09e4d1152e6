"""Generations of a node's data folder in a bucket, and everything that may happen to them there. Started by bucket/run; see there."""

import argparse
import hashlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "crash"))

from confluent_kafka import KafkaException, Producer  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

import load  # noqa: E402
from harness import brokers, paths, processes  # noqa: E402
from s3_server import S3Server  # noqa: E402

TOPIC, PARTITIONS, RECORD_BYTES = "events", 4, 8192
PIECE_BYTES = 4 << 20
COMMAND_SECONDS = 120
PLACE = "s3://pond/nightly/one"


class Run:
    """One run: a node, a server, and what was found wrong."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.chance, self.problems = folder, random.Random(seed), []
        self.server = S3Server(folder / "s3")
        self.broker = brokers.Millpond(folder / "node")
        # What each generation must hold.
        self.records, self.files = {}, {}

    # --- commands ---

    def millpond(self, *arguments, server=None, **changes):
        """Runs a command to its end."""
        environment = (server or self.server).environment(**changes)
        return subprocess.run([paths.millpond_binary(), *map(str, arguments)], capture_output=True, text=True, env=environment,
                              timeout=COMMAND_SECONDS, check=False)

    def done(self, *arguments, **changes) -> str:
        """The same; it must succeed."""
        ended = self.millpond(*arguments, **changes)
        if ended.returncode != 0:
            raise processes.CommandFailed(f"millpond {arguments}: exit code {ended.returncode}\n{ended.stdout}{ended.stderr}")
        return ended.stdout

    def refused(self, code, reason, *arguments, **changes) -> str:
        """It must fail with this exit code, and say why. Gives what it said."""
        ended = self.millpond(*arguments, **changes)
        said = ended.stdout + ended.stderr
        if ended.returncode != code or not re.search(reason, said) or "panicked" in said:
            self.problem(f"millpond {arguments} gave {ended.returncode}, not {code} with {reason!r}: {said}")
        return said

    def begin(self, *arguments):
        """Starts a command."""
        return subprocess.Popen([paths.millpond_binary(), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True, env=self.server.environment())

    def problem(self, text):
        self.problems.append(text)

    def equal(self, what, found, wanted):
        if found != wanted:
            self.problem(f"{what}: {found!r}, not {wanted!r}")

    # --- the node ---

    def produce(self, count):
        """Records that no compression makes smaller; the node is stopped afterwards."""
        self.broker.start()
        if not self.records:
            admin = AdminClient({"bootstrap.servers": self.broker.bootstrap, "log_level": 0})
            admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(30)
        failures = []
        producer = Producer({"bootstrap.servers": self.broker.bootstrap, "log_level": 0, "acks": "all", "linger.ms": 20})
        for number in range(count):
            producer.produce(TOPIC, self.chance.randbytes(RECORD_BYTES), partition=number % PARTITIONS,
                             on_delivery=lambda error, _: failures.append(error) if error else None)
            producer.poll(0)
        if producer.flush(60) or failures:
            raise processes.CommandFailed(f"not every record was taken: {failures[:3]}")
        now = load.read_all(self.broker.bootstrap, TOPIC)
        self.broker.stop()
        return now

    def take(self, *more, records=None) -> tuple:
        """A backup; gives what it copied and shared."""
        said = self.done("backup", PLACE, "--data", self.broker.data, *more)
        number, copied, shared = map(int, re.search(r"generation (\d+): .* copied (\d+), shared (\d+)", said).groups())
        self.files[number] = contents(self.broker.data)
        self.records[number] = records if records is not None else self.records[max(self.records)]
        return number, copied, shared

    def check_restored(self, number, place=PLACE, **changes):
        """A generation comes back byte for byte."""
        target = self.folder / f"restored-{number}"
        shutil.rmtree(target, ignore_errors=True)
        self.done("restore", place, "--data", target, "--generation", number, **changes)
        self.equal(f"the files of generation {number} of {place}", contents(target), self.files[number])
        return target

    def check_served(self, number):
        """A node starts on it and serves the same records."""
        node = brokers.Millpond(self.folder / f"again-{number}")
        shutil.move(self.check_restored(number), node.data)
        try:
            node.start()
            if load.read_all(node.bootstrap, TOPIC) != self.records[number]:
                self.problem(f"a node on generation {number} serves other records")
        finally:
            if node.process is not None:
                node.stop()

    def generations(self, place=PLACE):
        """Those that are listed; all must be sound."""
        self.done("backup", place, "--verify")
        return [int(each) for each in re.findall(r"generation (\d+):", self.done("backup", place, "--list"))]

    # --- the bucket, as its server keeps it ---

    def in_bucket(self, pattern):
        return sorted((self.server.objects / "pond/nightly/one").glob(pattern))

    def when_a_piece_came(self, process):
        """Waits until a backup is in the middle. Says whether it was seen there."""
        before = len(self.in_bucket("pieces/*/*"))
        deadline = time.monotonic() + COMMAND_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if len(self.in_bucket("pieces/*/*")) > before:
                return True
        return False


def contents(folder: Path) -> dict:
    """The hashes of a folder's files, by name, without what a backup leaves out."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = ((str(path.relative_to(folder)), path) for path in files)
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in names if name not in (".lock", ".kafka_cleanshutdown")}


def generations(run: Run):
    """The first copies everything, the second nothing, the third what is new; all come back."""
    records = run.produce(6000)
    began = time.monotonic()
    number, copied, shared = run.take(records=records)
    seconds = time.monotonic() - began
    print(f"generation 1: {copied} bytes copied in {seconds:.2f} s, {copied / seconds / 1e6:.0f} MB/s", flush=True)
    if number != 1 or copied < 6000 * RECORD_BYTES:
        run.problem(f"the first backup is generation {number}, and copied {copied}")
    number, copied, shared = run.take()
    run.equal("the second backup", (number, copied), (2, 0))
    records = run.produce(1000)
    number, copied, shared = run.take(records=records)
    # Of each log the last piece is new, and so are the node's small files.
    new_max = 1000 * RECORD_BYTES + (PARTITIONS + 4) * PIECE_BYTES
    if not 1000 * RECORD_BYTES <= copied <= new_max or shared < 3 * PIECE_BYTES:
        run.problem(f"the third backup copied {copied} of at most {new_max}, and shared {shared}")
    run.equal("the list", run.generations(), [1, 2, 3])
    run.equal("locks that are left", run.in_bucket("locked-by"), [])
    run.check_served(1)
    run.check_served(3)
    run.refused(2, "has no generation 9; it has 1, 2, 3", "restore", PLACE, "--data", run.folder / "none", "--generation", 9)


def copied_by_others(run: Run):
    """A folder that was copied into a bucket is the same backup, and so is a bucket that was copied into a folder."""
    folder = run.folder / "copied"
    shutil.copytree(run.server.objects / "pond/nightly/one", folder)
    run.check_restored(3, place=f"file://{folder}")
    run.check_restored(1, place=folder)
    said = run.done("backup", f"file://{folder}", "--data", run.broker.data)
    if not re.search("generation 4: .* copied 0,", said):
        run.problem(f"a folder that was copied of a bucket lacks something: {said}")
    # With the folder's lock file, as a tool does it that knows nothing of it.
    if not (folder / ".lock").exists():
        run.problem("a folder has no lock file")
    shutil.copytree(folder, run.server.objects / "pond/from-a-folder")
    run.equal("a folder that was copied into the bucket", run.generations("s3://pond/from-a-folder"), [1, 2, 3, 4])
    run.check_restored(1, place="s3://pond/from-a-folder/")
    said = run.done("backup", "s3://pond/from-a-folder", "--data", run.broker.data)
    if not re.search("generation 5: .* copied 0,", said):
        run.problem(f"a bucket that was copied of a folder lacks something: {said}")


def killed(run: Run):
    """A backup that is killed leaves what was there, and its lock, which is broken by its name only."""
    before = run.generations()
    records = run.produce(6000)
    process = run.begin("backup", PLACE, "--data", run.broker.data)
    was_in_the_middle = run.when_a_piece_came(process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if not was_in_the_middle or process.returncode != -signal.SIGKILL:
        raise processes.CommandFailed("no backup was killed in the middle")
    run.equal("the generations after a killed backup", run.generations(), before)
    run.check_restored(max(before))
    said = run.refused(2, rf"process {process.pid} on .*--break-lock [0-9a-f]{{12}}\n$", "backup", PLACE, "--data", run.broker.data)
    run.refused(2, "being written to by", "backup", PLACE, "--data", run.broker.data, "--keep", "1", "--break-lock", "0123456789ab")
    run.equal("the generations after a refused backup", run.generations(), before)
    lock = re.search("--break-lock ([0-9a-f]{12})", said)[1]
    said = run.done("backup", PLACE, "--data", run.broker.data, "--break-lock", lock)
    if not re.search(rf"broke the lock of process {process.pid} on ", said):
        run.problem(f"a lock was broken silently: {said}")
    number = max(before) + 1
    run.files[number], run.records[number] = contents(run.broker.data), records
    run.equal("the generations after the lock was broken", run.generations(), [*before, number])
    run.check_served(number)


def at_once(run: Run):
    """Two backups at a time: each is a generation or is refused, and nothing is written over."""
    before = run.generations()
    both = [run.begin("backup", PLACE, "--data", run.broker.data) for _ in range(2)]
    said = [process.communicate(timeout=COMMAND_SECONDS)[0] for process in both]
    codes = [process.returncode for process in both]
    made = sum(code == 0 for code in codes)
    refusals = [text for text, code in zip(said, codes) if code != 0]
    # The node's folder can be locked by one of them only, so here the second is refused by that or by the bucket.
    if made == 0 or not all(re.search("in use by (another )?process|being written to by process", text) for text in refusals):
        run.problem(f"two backups at a time: {codes} {said}")
    other = run.folder / "other-data"
    shutil.copytree(run.broker.data, other)
    (other / "only-here").write_bytes(run.chance.randbytes(20 * PIECE_BYTES))
    both = [run.begin("backup", PLACE, "--data", data) for data in (run.broker.data, other)]
    said = [process.communicate(timeout=COMMAND_SECONDS)[0] for process in both]
    codes = [process.returncode for process in both]
    for text, code in zip(said, codes):
        if code == 0:
            made += 1
        elif not re.search("being written to by process .*--break-lock", text):
            run.problem(f"two backups at a time of two nodes: {codes} {said}")
    if codes[1] != 0:
        # What only it has is needed when generations are pruned.
        run.done("backup", PLACE, "--data", other)
        made += 1
    run.equal("the generations of backups at a time", run.generations(), [*before, *range(max(before) + 1, max(before) + 1 + made)])
    run.equal("locks that are left", run.in_bucket("locked-by"), [])
    number, _, _ = run.take()
    run.check_restored(number)


def damaged(run: Run):
    """One bit of an object, an object that is cut off, one that is missing: found, named, and not restored."""
    newest = run.in_bucket("generations/*.manifest")[-1]
    pieces = [piece for piece in run.in_bucket("pieces/*/*") if piece.name in newest.read_text()]
    for victim, how in [(newest, "bit"), *((run.chance.choice(pieces), how) for how in ("bit", "cut", "gone"))]:
        sound = victim.read_bytes()
        changed = bytearray(sound)
        changed[run.chance.randrange(len(changed))] ^= 1 << run.chance.randrange(8)
        # In place: a file that is written anew would lose the attributes by which the server knows it.
        with victim.open("r+b") as file:
            file.write(changed)
            if how == "cut":
                file.truncate(len(changed) - 1)
        if how == "gone":
            victim.rename(run.folder / "gone")
        named = re.escape(f"{PLACE}/{victim.relative_to(run.server.objects / 'pond/nightly/one')}")
        run.refused(2, f"damaged.*{named}|{named} is damaged", "restore", PLACE, "--data", run.folder / "none")
        run.refused(1, f"damaged.*{named}|{named} is damaged", "backup", PLACE, "--verify")
        if (run.folder / "none").exists() or (run.folder / "none.restoring").exists():
            run.problem(f"something was restored in spite of damage in {victim}")
        if how == "gone":
            (run.folder / "gone").rename(victim)
        with victim.open("r+b") as file:
            file.write(sound)
    run.generations()


def refusals(run: Run):
    """What cannot work says why."""
    data = run.broker.data
    run.refused(2, "there is no such bucket. Make the bucket", "backup", "s3://nowhere/one", "--data", data)
    run.refused(2, "there is no such bucket", "restore", "s3://nowhere/one", "--data", run.folder / "none")
    run.refused(2, "403: SignatureDoesNotMatch.*Check AWS_ACCESS_KEY_ID", "backup", PLACE, "--list", AWS_SECRET_ACCESS_KEY="wrong")
    run.refused(2, "(InvalidAccessKeyId|XAdminUserNotFound), .*Check AWS_ACCESS_KEY_ID", "backup", PLACE, "--data", data, AWS_ACCESS_KEY_ID="nobody")
    run.refused(2, "AWS_SECRET_ACCESS_KEY is not set", "backup", PLACE, "--list", AWS_SECRET_ACCESS_KEY=None)
    run.refused(2, "Set AWS_REGION", "backup", PLACE, "--list", AWS_REGION="elsewhere-1")
    run.refused(2, "s3://pond/nowhere is no backup", "backup", "s3://pond/nowhere", "--list")
    run.refused(2, "s3://pond holds other things", "backup", "s3://pond", "--data", data)
    run.refused(2, "no place for a backup", "backup", "ftp://pond", "--data", data)
    port = brokers.free_port()
    run.refused(2, f"no answer from http://127.0.0.1:{port}, asked 7 times again: .*Connection refused.*Check AWS_ENDPOINT_URL", "backup", PLACE, "--list",
                AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}")
    # A server that speaks TLS is not spoken to without, and the other way round.
    run.refused(2, "no answer from https://", "backup", PLACE, "--list", AWS_ENDPOINT_URL=f"https://127.0.0.1:{run.server.port}")


def stopped_server(run: Run):
    """A server that is killed in the middle: an error, and the next backup works."""
    before = run.generations()
    records = run.produce(6000)
    process = run.begin("backup", PLACE, "--data", run.broker.data)
    if not run.when_a_piece_came(process):
        raise processes.CommandFailed("no server was killed in the middle")
    run.server.kill()
    began = time.monotonic()
    said = process.communicate(timeout=COMMAND_SECONDS)[0]
    print(f"the server was killed; the backup ended after {time.monotonic() - began:.1f} s: {said.strip()}", flush=True)
    if process.returncode != 2 or not re.search(r"cannot write s3://pond/\S+: no answer from http://\S+, .*\. Check AWS_ENDPOINT_URL", said):
        run.problem(f"a server that was killed gave {process.returncode}: {said}")
    run.server.start()
    run.equal("the generations after the server was killed", run.generations(), before)
    lock = re.search("--break-lock ([0-9a-f]{12})", run.refused(2, "--break-lock", "backup", PLACE, "--data", run.broker.data))[1]
    number, copied, shared = run.take("--break-lock", lock, records=records)
    run.equal("the generations after that", run.generations(), [*before, number])
    run.check_restored(number)


def pruned(run: Run):
    """All generations but the newest go, with what only they had."""
    before = sum(path.stat().st_size for path in run.in_bucket("pieces/*/*"))
    number, _, _ = run.take("--keep", "1")
    run.equal("the list after --keep 1", run.generations(), [number])
    after = {path.name for path in run.in_bucket("pieces/*/*")}
    manifest = run.in_bucket("generations/*.manifest")[-1].read_text()
    run.equal("pieces that nothing needs", [name for name in after if name not in manifest], [])
    freed = before - sum(path.stat().st_size for path in run.in_bucket("pieces/*/*"))
    # What only the second node had, in at_once.
    if freed < 20 * PIECE_BYTES:
        run.problem(f"pruning freed {freed} bytes")
    run.check_served(number)


def over_tls(run: Run):
    """The same by HTTPS, with a certificate that the system trusts, and not with one that it does not."""
    certificate, key = run.folder / "certificate.pem", run.folder / "key.pem"
    processes.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-keyout", key,
                   "-out", certificate, "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"])
    server = S3Server(run.folder / "s3-tls", certificate=(certificate, key))
    try:
        server.start()
        server.make_bucket("pond")
        run.refused(2, "no answer from https://.*certificate.*", "backup", "s3://pond", "--data", run.broker.data, server=server)
        trusted = {"server": server, "SSL_CERT_FILE": str(certificate)}
        # The bucket as a whole.
        run.done("backup", "s3://pond", "--data", run.broker.data, **trusted)
        run.files[1] = contents(run.broker.data)
        run.check_restored(1, place="s3://pond", **trusted)
    finally:
        server.stop()


STEPS = [generations, copied_by_others, killed, at_once, damaged, refusals, stopped_server, pruned, over_tls]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    arguments.add_argument("--keep", action="store_true")
    options = arguments.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="millpond-bucket-"))
    run = Run(folder, options.seed)
    print(f"seed {options.seed}", flush=True)
    passed = 0
    try:
        run.server.start()
        run.server.make_bucket("pond")
        for step in STEPS:
            before, began = len(run.problems), time.monotonic()
            step(run)
            passed += len(run.problems) == before
            print(f"{'ok' if len(run.problems) == before else 'FAIL'} {step.__name__}, {time.monotonic() - began:.1f} s", flush=True)
    except (TimeoutError, KafkaException, OSError, subprocess.TimeoutExpired, processes.CommandFailed) as error:
        run.problem(f"{type(error).__name__}: {error}")
    finally:
        run.server.stop()
        if run.broker.process is not None:
            run.broker.stop()
    for problem in run.problems[:40]:
        print(f"FAIL {problem}")
    if run.problems:
        print(f"The folders: {folder}\nreplay with: protocol-tests/bucket/run --seed {options.seed}")
    elif not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{passed} passed, {len(STEPS) - passed} failed")
    return 1 if run.problems else 0


if __name__ == "__main__":
    sys.exit(main())

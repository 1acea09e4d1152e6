#!/usr/bin/env python3
"""Millpond with real data flowing through it.

    demo.py run  MILLPOND        a node on the usual ports that stays until Ctrl-C; flights flow in at RATE a second
    demo.py demo MILLPOND        a node of its own on free ports; all flights, as fast as they go; checks the results and ends
    demo.py feed KAFKA HTTP      the flights for a node that runs already, as in docker/compose.yaml

Everything that Millpond gets or gives here goes through kcat, an ordinary Kafka client.
Environment: RATE (flights a second; 0 is as fast as they go), MILLPOND_DATA (the data folder of `run`).
"""

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

import flights  # noqa: E402
import streams  # noqa: E402

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "millpond" / "demo"
TOPIC = "flights"
START_SECONDS_MAX = 120
CHECK_SECONDS_MAX = 180

# What is printed of each stream, so that a fast feed does not bury the screen.
LINES_PER_SECOND = 2
STATUS_SECONDS = 5


class Stopped(Exception):
    """The user pressed Ctrl-C."""


class Failed(Exception):
    """The demo cannot go on; the text says why."""


class Processes:
    """The programs that were started, ended by their ids in the reverse order."""

    def __init__(self):
        self.started = []

    def start(self, command, **options):
        # Own sessions: Ctrl-C is for this program, which then stops the others in their order.
        process = subprocess.Popen([str(word) for word in command], start_new_session=True, **options)
        self.started.append(process)
        return process

    def stop(self):
        for process in reversed(self.started):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


class Node:
    """A node that runs elsewhere."""

    def __init__(self, kafka, http):
        self.kafka, self.http = kafka, http

    def is_alive(self):
        return True

    def streams(self):
        """The names of the registered streams."""
        with urllib.request.urlopen(f"http://{self.http}/streams", timeout=30) as answer:
            return {stream["name"]: stream for stream in json.load(answer)["streams"]}

    def register(self, sql):
        """Produces a statement to the admin topic."""
        # kcat makes a record of each line.
        done = kcat(["-P", "-b", self.kafka, "-t", "_millpond_sql"], " ".join(sql.split()))
        if done.returncode:
            raise Failed(f"the statement was refused:\n{sql}\n{self.last_answer() or done.stderr}")

    def last_answer(self):
        """What the node said about the last statement."""
        done = kcat(["-C", "-b", self.kafka, "-t", "_millpond_answers", "-o", "-1", "-e", "-q"])
        return done.stdout.strip()

    def fed(self):
        """How many flights are in the topic."""
        done = kcat(["-Q", "-b", self.kafka, "-t", f"{TOPIC}:0:-1"])
        # "flights [0] offset 17"
        words = done.stdout.split()
        return int(words[-1]) if done.returncode == 0 and words and words[-1].isdigit() else 0


class OwnNode(Node):
    """`millpond serve`."""

    def __init__(self, processes, binary, arguments):
        self.binary = binary
        self.process = processes.start([binary, "serve", *arguments], stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("millpond ready "):
            self.process.wait(START_SECONDS_MAX)
            raise Failed("the node did not start; why stands above")
        addresses = dict(word.split("=", 1) for word in line.split()[2:])
        super().__init__(addresses["kafka"], addresses["http"])

    def is_alive(self):
        return self.process.poll() is None

    def select(self, sql):
        """The rows of a SELECT that reads what is there now."""
        command = [str(self.binary), "sql", "--server", f"http://{self.http}", "--format", "json", sql]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"{sql}\n{done.stderr}")
        return [json.loads(line) for line in done.stdout.splitlines()]


def kcat(arguments, stdin=None):
    return subprocess.run(["kcat", *arguments], input=stdin, capture_output=True, text=True)


class Results:
    """Reads the result topics and prints some of what comes."""

    def __init__(self, processes, node, start, keep):
        self.counts = dict.fromkeys(streams.QUERIES, 0)
        self.rows = {name: [] for name in streams.QUERIES} if keep else None
        self.arrived = queue.SimpleQueue()
        for name in streams.QUERIES:
            command = ["kcat", "-C", "-b", node.kafka, "-t", name, "-o", start, "-q", "-u"]
            process = processes.start(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            threading.Thread(target=self.read, args=(name, process), daemon=True).start()

    def read(self, name, process):
        second, printed = 0, 0
        for line in process.stdout:
            self.counts[name] += 1
            if self.rows is not None:
                self.rows[name].append(json.loads(line))
            now = int(time.monotonic())
            if now != second:
                second, printed = now, 0
            if printed < LINES_PER_SECOND:
                printed += 1
                # One piece, since three threads write.
                sys.stdout.write(f"{name:>15}  {line.rstrip()}\n")
                sys.stdout.flush()

    def summary(self):
        return "  ".join(f"{name} {count:,}" for name, count in self.counts.items())


class Feeder(threading.Thread):
    """Feeds flights to kcat at a pace."""

    def __init__(self, processes, node, path, first, rate):
        super().__init__(daemon=True)
        self.path, self.first, self.rate = path, first, rate
        self.fed = 0
        self.problem = None
        self.kcat = processes.start(["kcat", "-P", "-b", node.kafka, "-t", TOPIC], stdin=subprocess.PIPE, text=True)

    def run(self):
        number, skip = divmod(self.first, flights.ROWS)
        began = time.monotonic()
        try:
            with self.path.open(encoding="utf-8") as lines:
                for place, line in enumerate(lines):
                    if place < skip:
                        continue
                    self.kcat.stdin.write(flights.in_pass(line, number))
                    self.fed += 1
                    if self.rate:
                        self.wait_until(began + self.fed / self.rate)
            self.kcat.stdin.close()
            if self.kcat.wait():
                self.problem = "kcat could not deliver the flights"
        except (BrokenPipeError, ValueError):
            self.problem = "kcat ended before all flights were fed"

    def wait_until(self, moment):
        pause = moment - time.monotonic()
        if pause > 0.02:
            self.kcat.stdin.flush()
            time.sleep(pause)


def register(node):
    """Registers what is not registered yet."""
    known = node.streams()
    if TOPIC not in known:
        node.register(streams.DECLARATION)
    fresh = [name for name in streams.QUERIES if name not in known]
    for name in fresh:
        node.register(streams.statement(name))
    return fresh


def run(binary):
    """Serves until Ctrl-C."""
    data = os.environ.get("MILLPOND_DATA", "millpond-data")
    processes = Processes()
    try:
        path = flights.cached(CACHE)
        node = OwnNode(processes, binary, ["--data", data])
        show(processes, node, path, str(binary), f"Its data are in {data}.")
        raise Failed(f"the node ended by itself with exit code {node.process.returncode}")
    except (KeyboardInterrupt, Stopped):
        print("\nStopping.", flush=True)
    finally:
        quietly(processes.stop)


def feed(kafka, http):
    """Feeds a node that runs already until Ctrl-C."""
    processes = Processes()
    try:
        show(processes, Node(kafka, http), flights.cached(CACHE), "millpond", "")
    except (KeyboardInterrupt, Stopped):
        print("\nStopping.", flush=True)
    finally:
        quietly(processes.stop)


def show(processes, node, path, millpond, where):
    """Registers the streams, feeds the flights, prints results until the node ends."""
    rate = float(os.environ.get("RATE", "500"))
    fresh = register(node)
    first = node.fed()
    print(f"""
Millpond serves Kafka clients on {node.kafka} and HTTP on {node.http}. {where}
Flights flow into the topic `{TOPIC}` at {rate:g} a second (RATE=… changes that){f", from number {first + 1:,} on" if first else ""}.
{len(streams.QUERIES)} streams {"were registered by producing to `_millpond_sql`" if fresh else "are registered since the last time"}. In a second shell:

    kcat -C -b {node.kafka} -t carrier_hours -o end
    {millpond} sql "SELECT origin, COUNT(*) AS flights FROM flights GROUP BY origin"
    echo "CREATE MATERIALIZED STREAM to_hawaii AS SELECT * FROM flights WHERE dest = 'HNL'" | kcat -P -b {node.kafka} -t _millpond_sql

Ctrl-C ends. Results as they arrive:
""", flush=True)
    results = Results(processes, node, "end" if first else "beginning", keep=False)
    feeder = Feeder(processes, node, path, first, rate)
    feeder.start()
    over = False
    said = time.monotonic()
    while node.is_alive():
        time.sleep(0.2)
        if over or time.monotonic() - said < STATUS_SECONDS:
            continue
        said = time.monotonic()
        over = not feeder.is_alive()
        print(f"         flights  {first + feeder.fed:,} fed  {results.summary()}", flush=True)
        if feeder.problem:
            raise Failed(feeder.problem)
        if over:
            print("All flights of the data set were fed; the node goes on serving. Ctrl-C ends.", flush=True)


def demo(binary):
    """All flights, the check, the totals."""
    rate = float(os.environ.get("RATE", "0"))
    processes = Processes()
    folder = tempfile.mkdtemp(prefix="millpond-demo-")
    try:
        path = flights.cached(CACHE)
        ports = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        node = OwnNode(processes, binary, ["--data", f"{folder}/data", *ports])
        register(node)
        results = Results(processes, node, "beginning", keep=True)
        began = time.monotonic()
        feeder = Feeder(processes, node, path, 0, rate)
        feeder.start()
        with path.open(encoding="utf-8") as lines:
            expected = streams.expected(lines)
        feeder.join()
        if feeder.problem:
            raise Failed(feeder.problem)
        deadline = time.monotonic() + CHECK_SECONDS_MAX
        while any(results.counts[name] < len(rows) for name, rows in expected.items()):
            if time.monotonic() > deadline or node.process.poll() is not None:
                break
            time.sleep(0.1)
        seconds = time.monotonic() - began
        # Should there be more than there ought to be, it comes within a moment.
        time.sleep(1)
        print(f"\nTotals after {seconds:.1f} s: {node.fed():,} flights fed")
        wrong = [name for name in expected if not report(name, results.rows[name], expected[name])]
        # At once, the last window is complete too; the registered query waits for its watermark.
        last_end = max(row["window_end"] for row in expected["carrier_hours"])
        at_once = [row for row in node.select(streams.QUERIES["carrier_hours"]) if row["window_end"] <= last_end]
        if not report("carrier_hours, as a SELECT that reads what is there now", at_once, expected["carrier_hours"]):
            wrong.append("the SELECT")
        if wrong or node.fed() != flights.ROWS:
            raise Failed("the results are not what they should be")
    finally:
        quietly(processes.stop)
        shutil.rmtree(folder, ignore_errors=True)


def report(name, rows, expected):
    """Compares results with what was computed without Millpond, in no order; averages to nine digits."""
    same = sorted(map(comparable, rows)) == sorted(map(comparable, expected))
    print(f"    {len(rows):>7,} {name}: {'as computed independently' if same else f'WRONG, {len(expected):,} were expected'}")
    return same


def comparable(row):
    return json.dumps({name: float(f"{value:.9g}") if isinstance(value, float) else value for name, value in row.items()}, sort_keys=True)


def quietly(action):
    """A second Ctrl-C must not leave programs behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    action()


def stop_on_terminate(*_):
    raise Stopped


def main():
    modes = {("run", 1): lambda binary: run(Path(binary)), ("demo", 1): lambda binary: demo(Path(binary)), ("feed", 2): feed}
    mode = modes.get((sys.argv[1] if len(sys.argv) > 1 else "", len(sys.argv) - 2))
    if mode is None:
        raise SystemExit(__doc__)
    signal.signal(signal.SIGTERM, stop_on_terminate)
    # Also when a script started this in the background, where Ctrl-C would be ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        mode(*sys.argv[2:])
    except Failed as failure:
        raise SystemExit(f"demo: {failure}") from None
    except (KeyboardInterrupt, Stopped):
        raise SystemExit("demo: stopped") from None


if __name__ == "__main__":
    main()

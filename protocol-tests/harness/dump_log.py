"""Kafka's DumpLogSegments tool over a broker's folder: is what lies on the disk what Kafka would have written?"""

import re
import subprocess

from . import paths, processes, setup

RECORDS = 3000
PAYLOAD = "x" * 1000


def _tool(*arguments) -> str:
    return processes.run(["java", "-XX:TieredStopAtLevel=1", f"-Dlog4j2.configurationFile={paths.CLIENTS / 'java' / 'log4j2.properties'}",
                          "-cp", f"{setup.kafka()}/libs/*", *[str(each) for each in arguments]], timeout_seconds=120)


def _dump(*arguments) -> str:
    return _tool("org.apache.kafka.tools.DumpLogSegments", *arguments)


def check(broker, folder) -> list:
    """Writes three segments' worth of records, stops the broker cleanly, and reads every kind of file with the tool."""
    topic, results = "dump_log", []
    _tool("org.apache.kafka.tools.TopicCommand", "--bootstrap-server", broker.bootstrap, "--create", "--topic", topic, "--partitions", "1",
          "--config", "segment.bytes=1048576")
    lines = "".join(f"key-{number}\t{number} {PAYLOAD}\n" for number in range(RECORDS))
    subprocess.run(["kcat", "-P", "-b", broker.bootstrap, "-t", topic, "-p", "0", "-K", "\t", "-X", "enable.idempotence=true",
                    "-X", "batch.size=16384"], input=lines, text=True, check=True, timeout=60, stderr=subprocess.DEVNULL)
    broker.restart()  # a clean stop writes the snapshot and trims the indexes
    partition = broker.partition_folder(topic, 0)

    def attempt(name, run):
        try:
            run()
            results.append((name, None))
        except (AssertionError, processes.CommandFailed, IndexError, FileNotFoundError) as error:
            results.append((name, " ".join(str(error).split())[:600]))

    def files(suffix):
        found = sorted(partition.glob(f"*.{suffix}"))
        assert found, f"no .{suffix} file in {partition}: {sorted(path.name for path in partition.iterdir())}"
        return found

    def log():
        segments = files("log")
        assert len(segments) >= 3, f"{len(segments)} segments"
        offsets = []
        for segment in segments:
            said = _dump("--deep-iteration", "--print-data-log", "--files", segment)
            assert f"Log starting offset: {int(segment.stem)}" in said, said[:300]
            assert "isvalid: false" not in said.lower() and "isvalid: true" in said.lower(), said[:300]
            offsets += [int(found) for found in re.findall(r"\| offset: (\d+)", said)]
            assert not re.search(r"Found \d+ invalid message bytes", said), said[-300:]
        assert offsets == list(range(RECORDS)), f"{len(offsets)} offsets"

    def index(suffix, entries_min):
        for number, file in enumerate(files(suffix)):
            said = _dump("--files", file)
            for complaint in ("Mismatches in", "could not find", "Index timestamp mismatch", "out of order", "non-consecutive", "is sane", "ERROR", "Exception"):
                assert complaint.lower() not in said.lower(), said[:600]
            if number == 0:
                assert len(re.findall(r"offset: ", said)) >= entries_min, said[:600]

    def sane():
        for file in files("index"):
            said = _dump("--index-sanity-check", "--files", file)
            assert "passed sanity check" in said, said[:300]

    def snapshot():
        said = _dump("--files", files("snapshot")[-1])
        assert re.search(r"producerId: \d+ producerEpoch: 0", said), said[:600]

    def consumer_offsets():
        said = ""
        for each in sorted(broker.log_folder().rglob("__consumer_offsets-*/*.log")):
            if each.stat().st_size > 0:
                said += _dump("--offsets-decoder", "--files", each)
                if "topic" in said and "generation" in said.lower():
                    break
        assert re.search(r'"?offset"?[:=] ?\d+', said) and "generation" in said.lower(), said[:600] or "no group was ever written"

    attempt("log", log)
    attempt("index", lambda: index("index", 10))  # a batch of 16 KB is more than the interval of 4 KB
    attempt("timeindex", lambda: index("timeindex", 1))  # one entry a millisecond at most
    attempt("index sanity", sane)
    attempt("snapshot", snapshot)
    attempt("consumer offsets", consumer_offsets)
    return results

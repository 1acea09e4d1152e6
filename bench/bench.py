"""The rounds of the bench. Started by bench/run; see there."""

import argparse
import datetime
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "protocol-tests"))

from confluent_kafka import KafkaException  # noqa: E402

import limits  # noqa: E402
import measures  # noqa: E402
import table  # noqa: E402
from harness import brokers, paths, processes, setup  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results.md"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="one round with a tenth of the data")
    arguments.add_argument("--rounds", type=int, help="3 unless told otherwise, 1 when quick")
    arguments.add_argument("--broker", choices=["kafka", "millpond"], help="only one of the two")
    arguments.add_argument("--output", type=Path, help="the file to write; bench/results.md unless quick")
    arguments.add_argument("--limits", action="store_true", help="Millpond against the machine's limits instead; writes bench/limits.md")
    options = arguments.parse_args()
    if options.broker != "kafka" and not paths.millpond_binary().exists():
        sys.exit(f"{paths.millpond_binary()} is missing; build it with `cargo build --release -p millpond`")
    if options.limits:
        return limits.main(setup.rust() / "rdkafka_load", options.quick, options.output or (None if options.quick else limits.RESULTS))
    rounds = options.rounds or (1 if options.quick else 3)
    size = measures.QUICK if options.quick else measures.FULL
    began = datetime.datetime.now(datetime.timezone.utc)
    load = setup.rust() / "rdkafka_load"
    results = {"kafka": [], "millpond": []}
    for number in range(rounds):
        for name in ["kafka", "millpond"]:
            if options.broker not in (None, name):
                continue
            print(f"round {number + 1} of {rounds}: {name}", flush=True)
            results[name].append(one_round(name, size, load))
    output = options.output or (None if options.quick else RESULTS)
    text = table.render(results, size, began, rounds)
    print(text)
    if output:
        output.write_text(text)
    return 0


def one_round(name, size, load) -> dict:
    """Everything that is measured of one broker, from an empty folder."""
    folder = Path(tempfile.mkdtemp(prefix=f"millpond-bench-{name}-"))
    broker = brokers.Kafka(folder) if name == "kafka" else brokers.Millpond(folder)
    measured = {}
    try:
        measures.measure(broker, size, load, measured)
    except (processes.CommandFailed, subprocess.TimeoutExpired, KafkaException, TimeoutError, OSError, ValueError) as error:
        traceback.print_exc()
        measured["failure"] = f"{type(error).__name__}: {error}"
        print(broker.log_tail())
    finally:
        if broker.process is not None:
            broker.stop()
        shutil.rmtree(folder, ignore_errors=True)
        os.sync()
    return measured


if __name__ == "__main__":
    sys.exit(main())

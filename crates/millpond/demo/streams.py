"""The demo's statements, and what they must give, computed without Millpond."""

import json
from collections import defaultdict
from datetime import datetime, timedelta

DECLARATION = """CREATE STREAM flights (
    departure TIMESTAMP(3), carrier STRING, flight BIGINT, tailnum STRING, origin STRING, dest STRING,
    dep_time BIGINT, dep_delay BIGINT, arr_delay BIGINT, distance BIGINT,
    WATERMARK FOR departure AS departure - INTERVAL '5' SECOND
) WITH (topic = 'flights', format = 'json')"""

QUERIES = {
    "long_delays": """SELECT departure, carrier, flight, origin, dest, dep_delay
FROM flights
WHERE dep_delay >= 120""",
    "carrier_hours": """SELECT carrier, window_start, window_end, COUNT(*) AS flights, COUNT(dep_time) AS departed, AVG(CAST(dep_delay AS DOUBLE)) AS delay
FROM TABLE(TUMBLE(TABLE flights, DESCRIPTOR(departure), INTERVAL '1' HOUR))
GROUP BY carrier, window_start, window_end""",
    "airport_trends": """SELECT origin, window_start, window_end, COUNT(*) AS flights, MAX(dep_delay) AS worst
FROM TABLE(HOP(TABLE flights, DESCRIPTOR(departure), INTERVAL '1' HOUR, INTERVAL '3' HOUR))
GROUP BY origin, window_start, window_end""",
}

WATERMARK_DELAY = timedelta(seconds=5)


def statement(name: str) -> str:
    """How a query is registered."""
    return f"CREATE MATERIALIZED STREAM {name} AS {QUERIES[name]}"


def expected(lines) -> dict[str, list[dict]]:
    """The results of the queries over these records, in no order: those of windows that the watermark has closed."""
    rows = [json.loads(line) for line in lines]
    for row in rows:
        row["moment"] = datetime.fromisoformat(row["departure"])
    watermark = max(row["moment"] for row in rows) - WATERMARK_DELAY
    hour = timedelta(hours=1)

    def windows(key: str, size: timedelta):
        groups = defaultdict(list)
        for row in rows:
            start = row["moment"].replace(minute=0, second=0)
            while start > row["moment"] - size:
                groups[row[key], start].append(row)
                start -= hour
        return {(value, start): members for (value, start), members in groups.items() if start + size <= watermark}

    delays = [
        {name: row[name] for name in ("departure", "carrier", "flight", "origin", "dest", "dep_delay")}
        for row in rows
        if row["dep_delay"] is not None and row["dep_delay"] >= 120
    ]
    carriers = []
    for (carrier, start), members in windows("carrier", hour).items():
        known = [row["dep_delay"] for row in members if row["dep_delay"] is not None]
        carriers.append({
            "carrier": carrier, "window_start": text(start), "window_end": text(start + hour), "flights": len(members),
            "departed": sum(row["dep_time"] is not None for row in members),
            "delay": sum(known) / len(known) if known else None,
        })
    trends = []
    for (origin, start), members in windows("origin", 3 * hour).items():
        known = [row["dep_delay"] for row in members if row["dep_delay"] is not None]
        trends.append({
            "origin": origin, "window_start": text(start), "window_end": text(start + 3 * hour), "flights": len(members),
            "worst": max(known, default=None),
        })
    return {"long_delays": delays, "carrier_hours": carriers, "airport_trends": trends}


def text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000")

"""What must come out, recomputed from the CSV file by plain code that shares nothing with the path it checks."""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from sys import intern
from typing import Any

Key = tuple[str, ...]
Row = dict[str, Any]
Flight = tuple[int, int, str, str, str, str]  # seconds since 1970, line, origin, dest, tailnum, dep_delay


def expected_rows(
    lines: Iterable[Mapping[str, str]], limit: int | None = None
) -> tuple[dict[Key, Row], dict[Key, Row]]:
    """Rows by key of `routes` and of `aircraft` after the first `limit` departures in order of time.

    Every departure counts for its route. An aircraft's row counts those whose tail number is known: the 2,512 of
    336,776 that have none were cancelled before an aircraft was assigned. A cancelled departure is a flight of its
    route and aircraft at the time it was due, but has no delay and is nobody's last departure.
    """
    routes: dict[Key, Row] = {}
    aircraft: dict[Key, Row] = {}
    for seconds, _, origin, dest, tailnum, delay in sorted(_flights(lines))[:limit]:
        last = {"last_departure": datetime.fromtimestamp(seconds, UTC)}
        _count(routes, (origin, dest), delay, last)
        if tailnum != "NA":
            _count(aircraft, (tailnum,), delay, {**last, "last_destination": dest})
    return routes, aircraft


def _flights(lines: Iterable[Mapping[str, str]]) -> list[Flight]:
    flights: list[Flight] = []
    for number, line in enumerate(lines):
        delay = line["dep_delay"]
        minutes = int(line["minute"]) + (0 if delay == "NA" else int(delay))
        places = intern(line["origin"]), intern(line["dest"]), intern(line["tailnum"])
        flights.append((_hour(line["time_hour"]) + 60 * minutes, number, *places, intern(delay)))
    return flights


def _count(rows: dict[Key, Row], key: Key, delay: str, last: Row) -> None:
    row = rows.get(key)
    if row is None:
        row = rows[key] = {"flights": 0, "cancelled": 0, "delay_minutes": 0, "worst_delay": None, **dict.fromkeys(last)}
    row["flights"] += 1
    if delay == "NA":
        row["cancelled"] += 1
        return
    row["delay_minutes"] += int(delay)
    row["worst_delay"] = int(delay) if row["worst_delay"] is None else max(row["worst_delay"], int(delay))
    row.update(last)


@cache  # a year has 8,760 hours
def _hour(text: str) -> int:
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))

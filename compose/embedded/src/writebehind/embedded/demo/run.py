"""The course of the demo on one page: servers, tables, replay with a kill half-way, everything compared and audited."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console

from writebehind.embedded.demo import dataset, steps
from writebehind.embedded.demo.audit import Audited, audit
from writebehind.embedded.demo.compare import Comparison, compare
from writebehind.embedded.demo.dataset import Departure
from writebehind.embedded.demo.entities import Aircraft, Route
from writebehind.embedded.demo.expected import Key, Row, expected_rows
from writebehind.embedded.demo.flusher import Flusher
from writebehind.embedded.demo.outcome import Outcome, Result
from writebehind.embedded.demo.replay import Tally
from writebehind.embedded.demo.view import Bar
from writebehind.embedded.isolation import ExistingServers, Isolation, isolated
from writebehind.embedded.stack import Stack
from writebehind.embedded.supervisor import Supervisor

_SETTINGS: Final = {
    # A killed flusher's partitions are free once its session ends: 6 s is the least that a broker allows by default.
    "WRITEBEHIND_FLUSHER__SESSION_TIMEOUT_S": "6",
}


@contextmanager
def run(limit: int | None, console: Console) -> Iterator[Outcome]:
    """Run the demo; servers and flusher stay up for the body. Raises EmbeddedError and the library's own errors."""
    archive = dataset.archive()  # before anything is started: it is what is missing most often
    with ExitStack() as cleanup:
        console.print("starting the servers and reading the departures")
        servers = cleanup.enter_context(_servers())
        departures, routes, aircraft = _read(archive, limit)
        corner = cleanup.enter_context(isolated(servers, label="demo"))
        settings = {**corner.env, **_SETTINGS}
        os.environ.update(settings)  # the producer's settings, and what the commands inherit
        flusher = cleanup.enter_context(_flusher())
        started_at = time.monotonic()
        steps.prepare(corner)
        flusher.start()
        with Bar(console, len(departures)) as bar:
            tally, seconds = asyncio.run(steps.write(corner, flusher, departures, bar))
        comparisons = _compare(corner, routes, aircraft)
        audited = audit()
        result = _result(tally, seconds, flusher, comparisons, audited)
        yield Outcome(result, comparisons, audited, time.monotonic() - started_at, settings)


def _read(archive: Path, limit: int | None) -> tuple[list[Departure], dict[Key, Row], dict[Key, Row]]:
    with dataset.opened(archive) as lines:
        departures = dataset.departures(lines, limit)
    with dataset.opened(archive) as lines:
        return departures, *expected_rows(lines, limit)


def _compare(corner: Isolation, routes: dict[Key, Row], aircraft: dict[Key, Row]) -> list[Comparison]:
    cached_routes, cached_aircraft = asyncio.run(steps.cached([(Route, routes), (Aircraft, aircraft)]))
    return [
        compare("Postgres", "routes", routes, steps.stored(corner, Route)),
        compare("Postgres", "aircraft", aircraft, steps.stored(corner, Aircraft)),
        compare("cache", "routes", routes, cached_routes),
        compare("cache", "aircraft", aircraft, cached_aircraft),
    ]


def _result(
    tally: Tally, seconds: float, flusher: Flusher, comparisons: Sequence[Comparison], audited: Sequence[Audited]
) -> Result:
    differences = sum(len(one.differences) for one in comparisons)
    return Result(
        exact=differences == 0,
        departures=tally.departures,
        writes=tally.acknowledged,
        rows=sum(one.rows for one in comparisons if one.place == "Postgres"),
        differences=differences,
        flusher_kills=flusher.kills,
        acknowledged_per_s=round(tally.acknowledged / seconds),
        audit_drift=sum(one.drift for one in audited),
    )


@contextmanager
def _servers() -> Iterator[Mapping[str, str]]:
    """The settings of the servers that the settings name, else of an embedded stack."""
    existing = ExistingServers.from_environment(os.environ)
    if existing is not None:
        yield existing.env()
        return
    # Counted calls tell how many statements the flusher sent.
    with Stack(postgres_options={"track_functions": "all"}) as stack:
        yield stack.env()


@contextmanager
def _flusher() -> Iterator[Flusher]:
    """A flusher to be started; stopped in order at the end, killed if the demo itself is."""
    supervisor = Supervisor()
    try:
        folder = Path(tempfile.mkdtemp(prefix="writebehind-demo-"))
        supervisor.remove_at_end(folder)
        flusher = Flusher(supervisor, folder, os.environ)
        yield flusher
        flusher.stop()
    finally:
        supervisor.close()

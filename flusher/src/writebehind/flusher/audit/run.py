"""A run of the audit from its first question to its report: servers, history, resuming, repairing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from writebehind.shared.errors import ConfigurationError
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings

from ..progress import Ledger
from .cache import CacheReader
from .diff import Verdict
from .job import Job
from .letters import Skipped
from .measures import Measures
from .options import Options
from .pages import Page, listed, scanned, stored
from .repair import Repairer
from .runs import Kept, Runs
from .store import Store, Table
from .tally import Tally
from .watermark import Watermark

SAVE_EVERY_S = 1.0

Told = Callable[[int, int], None]  # names seen, names there are as far as anybody knows


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to. `finished` False: it was stopped, and can be gone on with."""

    run: int
    started_at: str
    seconds: float
    finished: bool
    entities: dict[str, dict[str, Any]]
    foreign: dict[str, int]
    restarts: int
    drifted: frozenset[tuple[str, str]]  # entity and key, of as many as are kept

    @property
    def drift(self) -> int:
        return sum(told["drift"] for told in self.entities.values())

    @property
    def unreadable(self) -> int:
        return sum(told["verdicts"]["unreadable"] for told in self.entities.values())

    @property
    def code(self) -> int:
        """The exit code: 1 drift, 2 something could not be audited, 0 clean."""
        if self.drift:
            return 1
        return 2 if self.unreadable or not self.finished else 0

    def as_json(self) -> dict[str, Any]:
        """The stable JSON form."""
        return {
            "run": self.run,
            "started_at": self.started_at,
            "seconds": round(self.seconds, 1),
            "finished": self.finished,
            "compared": sum(told["compared"] for told in self.entities.values()),
            "drift": self.drift,
            "unreadable": self.unreadable,
            "cache_restarts": self.restarts,
            "never_compared": self.foreign,
            "entities": self.entities,
        }


class Audit:
    """The servers of an audit, checked; `run` may be called again and again until `stop` is set."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        options: Options,
        measures: Measures,
        stop: threading.Event,
        stack: ExitStack,
    ) -> None:
        self._stop = stop
        self._settings, self._registry, self._options, self._measures = settings, registry, options, measures
        self._store = Store(settings.database, "writebehind-audit", stop)
        stack.callback(self._store.close)
        # Bad tables, a replica, a missing privilege: all of it comes out here, before anything is compared.
        self._tables = {
            name: Table(self._store, registry[name], settings.database.schema_) for name in options.entities
        }
        for table in self._tables.values():
            table.rows_of_nobody()
            if options.apply and not table.has_rows():
                raise _empty(table)
        self.runs = Runs(self._store, settings.database.schema_)
        self._cache = CacheReader(settings.cache, stop)
        stack.callback(self._cache.close)
        direct = [name for name in options.entities if self._tables[name].comparer.is_direct]
        self._watermark = Watermark(settings, stack.enter_context(Ledger(settings)), direct, stop=stop)
        stack.callback(self._watermark.close)
        for name in options.entities:
            if not self._watermark.ends(name):
                what = "invalidations" if name in direct else name
                raise ConfigurationError(f"there is no topic of {what}: run `writebehind migrate`")
        self._repairer: Repairer | None = None
        if options.repair is not None:
            self._repairer = Repairer(settings, self._cache, options.repair, apply=options.apply)
            stack.callback(self._repairer.close)
        for name in options.entities:
            measures.verified(name, self.runs.verified_through(name))

    def run(self, told: Told, *, resume: bool) -> Result:
        """One run. Ends early, and can be gone on with, when it is told to stop. Raises ConfigurationError when a
        server is away for too long, or while it is to stop: what was saved last can be gone on with.
        """
        with self._measures.run() as results:
            result = self._run(told, resume=resume)
            results.append(result)
        return result

    def _run(self, told: Told, *, resume: bool) -> Result:
        began = time.monotonic()
        kept = self.runs.unfinished(self._options.identity) if resume else None
        kept = kept or self.runs.begin(self._options.identity)
        restarts = 0
        while True:
            cache_id = self._cache.run_id()
            total = self._total()
            if kept.cursor is None or kept.cursor.get("cache") != cache_id:
                # A scan's cursor means nothing to another process of the cache: begin again, counts too.
                kept = Kept(kept.id, kept.started_at, None, {})
            job = self._job(kept)
            self._measures.begin(job.tallies)
            saver = _Saver(self.runs, kept, job, cache_id, told, total, self._measures)
            with _to_be_resumed():
                job.compare_all(self._pages(job, kept.cursor), saver.seen)
            self.runs.record(kept.id, job.take_findings())
            self._measures.counted(job.tallies)
            if (
                self._stop.is_set()
                or self._options.keys
                or self._options.from_database
                or self._cache.run_id() == cache_id
            ):
                break
            restarts += 1
            kept = Kept(kept.id, kept.started_at, None, {})
        for name, tally in job.tallies.items():
            if tally.verdicts[Verdict.ORPHAN] and not self._tables[name].has_rows():
                raise _empty(self._tables[name])
        finished = not self._stop.is_set()
        if finished:
            entities = {name: self._told(name, tally, kept) for name, tally in job.tallies.items()}
            self.runs.save(kept.id, None, entities, finished=True)
        else:
            with _to_be_resumed():
                saver.save()
        entities = {
            name: self._told(name, tally, kept, finished=finished, values=True) for name, tally in job.tallies.items()
        }
        seconds = time.monotonic() - began
        return Result(
            kept.id, kept.started_at, seconds, finished, entities, job.foreign, restarts, frozenset(job.drifted)
        )

    def _job(self, kept: Kept) -> Job:
        job = Job(
            self._options,
            {name: self._registry[name] for name in self._options.entities},
            self._cache,
            self._tables,
            self._watermark,
            Skipped(self._settings, self._registry),
            self._repairer,
            kept.id,
        )
        job.stop = self._stop
        job.tallies.update(kept.tallies)
        return job

    def _pages(self, job: Job, cursor: Any) -> Iterator[Page]:
        at = None if cursor is None else cursor["at"]
        if self._options.keys:
            return listed(self._options)
        if self._options.from_database:
            return stored(self._store, list(self._tables.values()), at)
        return scanned(self._cache, self._options, job.foreign, int(at or 0))

    def _total(self) -> int:
        if self._options.keys:
            return len(self._options.keys)
        if self._options.from_database:
            return sum(table.estimated_rows() for table in self._tables.values())
        return self._cache.keys()

    def _told(
        self, name: str, tally: Tally, kept: Kept, *, finished: bool = True, values: bool = False
    ) -> dict[str, Any]:
        whole = finished and not self._options.keys and not self._options.from_database
        through = kept.started_at if whole and tally.is_clean else self.runs.verified_through(name)
        self._measures.verified(name, through)
        return {**tally.as_json(values=values), "verified_through": through}


def _empty(table: Table) -> ConfigurationError:
    return ConfigurationError(
        f"{table.schema}.{table.declaration.table} has no rows: every entry looks like drift, and repairing "
        "would empty the cache. Is this the right database?"
    )


class _Saver:
    """Keeps the run's place and counts, so that another process can go on, and tells how far it is."""

    def __init__(
        self, runs: Runs, kept: Kept, job: Job, cache_id: str, told: Told, total: int, measures: Measures
    ) -> None:
        self._runs, self._kept, self._job, self._cache_id = runs, kept, job, cache_id
        self._told, self._total, self._measures = told, total, measures
        self._cursor: Any = None if kept.cursor is None else kept.cursor["at"]
        self._saved = time.monotonic()

    def seen(self, seen: int, cursor: Any) -> None:
        """So many names were seen; a run that goes on begins at `cursor`."""
        self._told(seen, self._total)
        if cursor is not None:
            self._cursor = cursor
        self._measures.counted(self._job.tallies)
        if time.monotonic() - self._saved >= SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        self._runs.record(self._kept.id, self._job.take_findings())
        entities = {name: tally.as_json() for name, tally in self._job.tallies.items()}
        self._runs.save(self._kept.id, {"cache": self._cache_id, "at": self._cursor}, entities)
        self._saved = time.monotonic()


@contextmanager
def _to_be_resumed() -> Iterator[None]:
    """Say what is kept of a run that a server ends."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{error}\n  The run is kept as it was a moment before. To go on with it: the same command with --resume"
        ) from None


@contextmanager
def audit(
    settings: Settings,
    registry: Registry,
    options: Options,
    measures: Measures | None = None,
    stop: threading.Event | None = None,
) -> Iterator[Audit]:
    """An audit whose servers answer and whose tables are as declared. Raises ConfigurationError.

    stop: set by whoever wants it to end early.
    """
    with ExitStack() as stack:
        yield Audit(settings, registry, options, measures or Measures(), stop or threading.Event(), stack)

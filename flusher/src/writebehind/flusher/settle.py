"""Settling: after a commit the cache learns what is in the database. Best effort; a failure costs a miss, never truth.

A settlement that failed may have been carried out or not, and a flusher may die before it settles what it committed:
the progress rows say how far the cache knows (`settled`), and the next owner consumes from there. Either way the
entries are put in doubt (`doubts.py`): they count anew, and go on serving what is pending. One thread per lane
keeps the order of its commits, which `heal` needs: a pending sum is what was enqueued and not yet settled.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psycopg
from redis.exceptions import RedisError

from writebehind.shared import naming, scripts
from writebehind.shared.declaration import Declaration
from writebehind.shared.fold import Settlement
from writebehind.shared.record import VERSION, Row
from writebehind.shared.scripts import EntityScripts, Healthy, read_indexes, to_cache
from writebehind.shared.settings import CacheSettings

from .batch import Settled, Span
from .cache import KEYS_PER_CALL, connect, evaluate, evaluate_each
from .doubts import ALL, Doubts, newest
from .measures import Measures
from .rows import Found

log = logging.getLogger("writebehind.flusher")

Term = tuple[int, int]  # a partition, and the epoch under which it was ours

QUEUED_MAX = 4  # settlements waiting for the cache; more are dropped, and their entries are in doubt
PATIENCE_S = 1.0  # how long a commit waits for a cache that answers, but slowly
DOUBT_EVERY_S = 1.0  # how often a cache that failed is told of doubts while nothing else is there to settle
HEAL_S = 5.0  # longest way of a row from the database to a heal; claiming a partition of a dead flusher takes longer


@dataclass(frozen=True, slots=True)
class Refused:
    """What a commit skipped: decoded rows with their key texts, and the key texts of records that cannot be read."""

    keys: list[str]
    rows: list[Row]
    unreadable: list[str]


@dataclass(frozen=True, slots=True)
class Committed:
    """What the cache has to learn of a stretch of the log that is in the database.

    `doubtful`: keys of records that another flusher committed, and may not have settled, with the newest's version.
    """

    spans: Sequence[Span]
    settlement: Settlement | None = None
    refused: Refused | None = None
    doubtful: Mapping[str, int] = field(default_factory=dict)

    @property
    def versions(self) -> dict[str, int]:
        """Every key, with the newest version that the database has, or has refused."""
        settled, refused = self.settlement, self.refused
        records: list[tuple[str, int | None]] = list(self.doubtful.items())
        if settled is not None:
            records += zip(settled.keys, settled.versions, strict=True)
        if refused is not None:
            records += zip(refused.keys, (row[VERSION] for row in refused.rows), strict=True)
            records += ((key, None) for key in refused.unreadable)
        return newest(records)


class Tainted(NamedTuple):
    """An entry to be healed: the partitions that it may be of, and the newest version of it that the database has."""

    terms: tuple[Term, ...]
    version: int


class Settler:
    """Settles one lane's commits, in order, in a thread of its own."""

    def __init__(
        self,
        declaration: Declaration,
        settings: CacheSettings,
        find: Callable[[Collection[str]], Found],
        owned: Callable[[Collection[Term]], set[Term]],
        slots: Mapping[str, int],
        measures: Measures,
    ) -> None:
        self._declaration = declaration
        self._scripts = EntityScripts(declaration)
        self._prefix = settings.prefix
        self._client = connect(settings, f"writebehind-flusher-{declaration.name}")
        self._find = find
        self._owned = owned
        self._slots = slots
        self._measures = measures
        self._queue: queue.Queue[Committed | None] = queue.Queue(QUEUED_MAX)
        self._thread = threading.Thread(target=self._run, name=f"settle {declaration.name}", daemon=True)
        self._tainted: dict[str, Tainted] = {}
        self._failed: deque[Mapping[str, int]] = deque()  # on their way into the doubts
        self._doubts = Doubts()
        self._failing = False
        self._reached: dict[int, tuple[int, int]] = {}
        # How far the cache knows: offset by partition and epoch. Replaced, never changed: others read it.
        self.settled: Settled = {}

    def start(self) -> None:
        self._thread.start()

    @property
    def unsure(self) -> bool:
        """Some entries have still to be put in doubt, whether or not anything is flushed."""
        return bool(self._failed or self._doubts)

    @property
    def quiet(self) -> bool:
        """Nothing is to be settled, or it cannot be."""
        return self._failing or not self._queue.unfinished_tasks

    def put(self, committed: Committed) -> None:
        """Settle later. Waits a little for a cache that is merely slow; one that is down must not slow the database."""
        try:
            self._queue.put(committed, block=not self._failing, timeout=PATIENCE_S)
        except queue.Full:
            self._failed.append(committed.versions)
            self._report("the cache is down")

    def doubt(self, span: Span, doubtful: Mapping[str, int]) -> None:
        """Records that a flusher before us committed, by key and newest version. Never waits."""
        committed = Committed([span], doubtful=doubtful)
        try:
            self._queue.put_nowait(committed)
        except queue.Full:
            self._failed.append(committed.versions)

    def stop(self, timeout_s: float) -> None:
        """Settle what is queued, within the time given."""
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def heal(self) -> None:
        """Set tainted entries right that are written all the time. Call between two commits of the lane, in its thread.

        Does nothing unless some entry is tainted and everything committed is settled: only then are row +
        unsettled deltas exact. Entries that may be healed later than that, or were not, are in doubt; those of a
        partition that somebody else has claimed are left to its owner, who may have committed more.
        """
        if not self._tainted or self._queue.unfinished_tasks or self.unsure:
            return
        tainted, self._tainted = self._tainted, {}
        texts = sorted(tainted)
        try:
            for at in range(0, len(texts), KEYS_PER_CALL):
                self._heal({text: tainted[text] for text in texts[at : at + KEYS_PER_CALL]})
        except (RedisError, OSError, psycopg.Error) as error:
            if not isinstance(error, psycopg.Error):
                self._failed.append({text: tainted[text].version for text in texts})
            log.info(
                "%s: entries not healed (%s); their next flush tries again",
                self._declaration.name,
                type(error).__name__,
            )

    def _run(self) -> None:
        while True:
            try:
                committed = self._queue.get(timeout=DOUBT_EVERY_S if self.unsure else None)
            except queue.Empty:
                self._step(None)  # also when nothing is flushed any more
                continue
            if committed is None:
                break
            self._step(committed)
            self._queue.task_done()
        self._client.close()

    def _step(self, committed: Committed | None) -> None:
        """Tell the cache what it can be told; what it cannot is in doubt."""
        try:
            self._carry_out(committed)
            self._failing = False
        except (RedisError, OSError) as error:
            self._report(type(error).__name__)
            if committed is not None:
                self._failed.append(committed.versions)
        if committed is not None:
            self._reached |= {span.partition: (span.epoch, span.next) for span in committed.spans}
        if not self.unsure:
            self.settled = self._reached.copy()

    def _carry_out(self, committed: Committed | None) -> None:
        while self._failed:
            self._doubts.add(self._failed.popleft())
        if committed is not None:
            self._doubts.add(committed.doubtful)
        self._doubt()
        if committed is None:
            return
        if committed.settlement is not None:
            self._settle(committed.settlement, tuple((span.partition, span.epoch) for span in committed.spans))
        if committed.refused is not None:
            self._take_back(committed.refused)

    def _doubt(self) -> None:
        """Tell the cache which entries are in doubt."""
        while part := self._doubts.some(KEYS_PER_CALL):
            evaluate(self._client, scripts.doubt(self._entries(list(part)), list(part.values())))
            self._doubts.told(part)

    def _settle(self, settlement: Settlement, terms: tuple[Term, ...]) -> None:
        parts = settlement.parts(KEYS_PER_CALL)
        calls = (self._scripts.settle(self._entries(part.keys), part) for part in parts)
        for part, reply in zip(parts, evaluate_each(self._client, calls), strict=True):
            for at in read_indexes(reply):
                self._taint(part.keys[at], part.versions[at], terms)

    def _taint(self, text: str, version: int, terms: tuple[Term, ...]) -> None:
        before = self._tainted.get(text)
        self._tainted[text] = Tainted(terms, version if before is None else max(version, before.version))

    def _take_back(self, refused: Refused) -> None:
        self._doubts.add(dict.fromkeys(refused.unreadable, ALL))  # nobody knows what they wrote: they are deleted
        self._doubt()
        for at in range(0, len(refused.rows), KEYS_PER_CALL):
            rows = refused.rows[at : at + KEYS_PER_CALL]
            evaluate(self._client, self._scripts.refuse(self._entries(refused.keys[at : at + KEYS_PER_CALL]), rows))

    def _heal(self, tainted: Mapping[str, Tainted]) -> None:
        seconds, micros = self._client.time()
        rows, deleted = self._find(tainted)
        ours = self._owned({term for each in tainted.values() for term in each.terms})  # asked after the rows were read
        texts = [text for text, each in tainted.items() if ours.issuperset(each.terms)]
        if texts:
            healthy = [self._healthy(rows.get(text), deleted.get(text, 0)) for text in texts]
            until_us = seconds * 1_000_000 + micros + int(HEAL_S * 1e6)
            evaluate(self._client, self._scripts.heal(self._entries(texts), healthy, until_us=until_us))

    def _healthy(self, row: Sequence[Any] | None, deleted: int) -> Healthy:
        if row is None:
            return Healthy(False, [], [], deleted)
        fields = [(c.position, to_cache(c.loaded(row[c.position]), c.kind.to_cache)) for c in self._declaration.fields]
        known = dict(enumerate(row[-1] or (), 1))
        versions = [(c.position, known.get(self._slots[c.name]) or 0) for c in self._declaration.versioned]
        return Healthy(True, fields, versions, deleted)

    def _entries(self, texts: Sequence[str]) -> list[str]:
        return naming.cache_keys(self._prefix, self._declaration.name, texts)

    def _report(self, reason: str) -> None:
        self._measures.settle_failed(self._declaration.name)
        level = logging.DEBUG if self._failing else logging.WARNING
        self._failing = True
        log.log(
            level,
            "%s: entries not settled (%s); they are put in doubt when the cache answers again",
            self._declaration.name,
            reason,
        )

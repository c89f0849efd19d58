"""What protects an entry while its row is written: an intent in the cache, or in Kafka when that cannot be told."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from writebehind.shared.direct import How
from writebehind.shared.errors import NotApplied
from writebehind.shared.invalidation import Invalidation
from writebehind.shared.scripts import forget
from writebehind.shared.settings import Settings

from ..backends.aio import Combiner, Runtime
from ..direct_write import DirectTarget, DirectWrite, Row
from ..invalidator import Invalidator
from ..tokens import Tokens
from .cache import CacheDown
from .direct_cache import AsyncDirectCache

log = logging.getLogger("writebehind.producer")

COMMIT_S = 5.0  # longest time from the end of a statement to the end of its transaction
SEND_S = 5.0  # how long the broker may take for an invalidation after the commit
RECORDS_PER_SEND = 1_000


def life_s(settings: Settings) -> float:
    """The life of an intent: longer than the statement it guards can be under way in the server."""
    return settings.database.statement_timeout_s + COMMIT_S


class Place(NamedTuple):
    """An entry, and the entity it belongs to: the one that is written, or another one on the same row."""

    target: DirectTarget
    key_text: str

    @property
    def entry(self) -> str:
        return self.target.entry(self.key_text)


@dataclass(frozen=True, slots=True)
class Late:
    """The entry that a write-behind entity has for a row that comes or goes. It is told at the end, and has no intent:
    it may hold writes that are in no row yet.
    """

    entity: str
    key_text: str
    entry: str


class Guard(NamedTuple):
    """Entries under one intent. `in_kafka`: the flusher carries it out as well, and must be told of the end."""

    token: str
    places: list[Place]
    late: list[Late]
    in_kafka: bool


class _Record:
    __slots__ = ("invalidation", "sent", "timeout_s")

    def __init__(self, invalidation: Invalidation, timeout_s: float) -> None:
        self.invalidation = invalidation
        self.timeout_s = timeout_s
        self.sent = False


class AsyncGuards:
    """Opens and ends guards. One per client."""

    def __init__(self, settings: Settings, cache: AsyncDirectCache, invalidator: Invalidator, runtime: Runtime) -> None:
        self._life_s = life_s(settings)
        self._cache = cache
        self._invalidator = invalidator
        self._runtime = runtime
        self._tokens = Tokens()
        self._records: Combiner[_Record] = Combiner(self._send, RECORDS_PER_SEND)

    async def open(self, target: DirectTarget, writes: Sequence[DirectWrite], timeout_s: float) -> Guard:
        """Empty the entries, and keep them empty until the guard is ended or a writer's time is over.

        Raises NotApplied when neither the cache nor the broker can be told, or the entity wants to fail then.
        """
        places = list(dict.fromkeys(Place(target, write.key_text) for write in writes))
        late: list[Late] = []
        rows_come_or_go = [write for write in writes if write.verb in ("create", "delete")]
        if rows_come_or_go:
            siblings = target.siblings()
            places += [Place(one, one.declaration.key_text(w.key)) for one in siblings for w in rows_come_or_go]
            late = [Late(d.name, *target.entry_of(d, w.key)) for d in target.late_siblings() for w in rows_come_or_go]
        token = self._tokens.one()
        try:
            if await self._cache.intend([place.entry for place in places], token):
                return Guard(token, places, late, in_kafka=False)
        except CacheDown:
            pass
        name = target.declaration.cls.__name__
        if target.strategy.on_cache_down == "fail":
            raise NotApplied(
                f"{name}: the cache cannot be told of the write (on_cache_down='fail'); nothing was written"
            )
        until_us = time.time_ns() // 1000 + int((self._life_s + timeout_s) * 1e6)
        intents = [Invalidation(place.target.name, place.key_text, token, until_us) for place in places]
        if not await self._tell_flusher(intents, timeout_s):
            raise NotApplied(f"{name}: neither the cache nor the broker takes the invalidation; nothing was written")
        return Guard(token, places, late, in_kafka=True)

    async def end(self, guard: Guard, how: How, rows: dict[Place, Row]) -> None:
        """The write is committed, or undone. Best effort: else the entries stay empty until the intent runs out."""
        writes = [(p.entry, p.target.finishing(guard.token, how, rows.get(p))) for p in guard.places]
        late = guard.late if how != "undone" else []
        told = True
        try:
            await self._cache.finish(writes)
            if late:
                await self._cache.run(forget([one.entry for one in late]))
        except CacheDown:
            told = False
        if not (guard.in_kafka or (not told and how != "undone")):
            return
        ends = [Invalidation(place.target.name, place.key_text, guard.token) for place in guard.places]
        ends += [Invalidation(one.entity, one.key_text, guard.token, forget=True) for one in late]
        if not await self._tell_flusher(ends, SEND_S):
            log.warning("%d entries are read from the database until their intents run out", len(guard.places))

    async def _tell_flusher(self, invalidations: Sequence[Invalidation], timeout_s: float) -> bool:
        records = [_Record(one, timeout_s) for one in invalidations]
        for start in range(0, len(records), RECORDS_PER_SEND):
            await self._records.submit(records[start : start + RECORDS_PER_SEND])
        return all(record.sent for record in records)

    async def _send(self, records: Sequence[_Record]) -> None:
        timeout_s = min(record.timeout_s for record in records)
        sent = await self._runtime.in_thread(self._invalidator.send, [r.invalidation for r in records], timeout_s)
        for record in records:
            record.sent = sent

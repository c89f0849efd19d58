"""Waiting for the database: receipts of one client that wait at the same time share one query."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..backends.aio import Combiner, sleep
from ..write import Write
from .rows import AsyncRows, Place

POLL_S = 0.03
STRAIGHT_TO_DATABASE = -2  # partition of a write that went through


class _Query:
    __slots__ = ("next_offset", "place")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.next_offset = 0


class AsyncProgress:
    """Asks Postgres how far the flusher is."""

    def __init__(self, rows: AsyncRows, timeout_s: float) -> None:
        self._rows = rows
        self._timeout_s = timeout_s
        self._combiner: Combiner[_Query] = Combiner(self._ask, 1000)

    async def wait(self, write: Write, timeout_s: float) -> bool:
        """True once the write's offset is below what Postgres has."""
        deadline = time.monotonic() + timeout_s
        if not await write.group.signal.wait(timeout_s):
            return False
        failure = write.outcome()
        if failure is not None:
            raise failure
        if write.partition == STRAIGHT_TO_DATABASE:
            return True
        query = _Query((write.target.topic, write.partition))
        while True:
            await self._combiner.submit([query])
            if query.next_offset > write.offset:
                return True
            if time.monotonic() >= deadline:
                return False
            await sleep(POLL_S)

    async def _ask(self, queries: Sequence[_Query]) -> None:
        known = await self._rows.progress(sorted({query.place for query in queries}), self._timeout_s)
        for query in queries:
            query.next_offset = known.get(query.place, 0)

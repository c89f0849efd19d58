"""Waiting for the database: receipts of one client that wait at the same time share one query."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..backends.aio import Combiner, Runtime, sleep
from ..outbox import Outbox
from ..write import UNKNOWN_OFFSET, Write
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

    def __init__(self, rows: AsyncRows, outbox: Outbox, runtime: Runtime, timeout_s: float) -> None:
        self._rows = rows
        self._outbox = outbox
        self._runtime = runtime
        self._timeout_s = timeout_s
        self._combiner: Combiner[_Query] = Combiner(self._ask, 1000)

    async def wait(self, write: Write, timeout_s: float) -> bool:
        """True once the write's offset is below what Postgres has.

        Of a write whose offset the broker did not tell, the log's end is waited for.
        """
        deadline = time.monotonic() + timeout_s
        await write.group.wait(deadline)
        if not write.group.answered:
            return False
        failure = write.outcome()
        if failure is not None:
            raise failure
        if write.partition == STRAIGHT_TO_DATABASE:
            return True
        query = _Query((write.target.topic, write.partition))
        until = None if write.offset == UNKNOWN_OFFSET else write.offset + 1
        while True:
            if until is None:
                until = await self._runtime.in_thread(self._outbox.end_offset, *query.place)
            if until is not None:
                await self._combiner.submit([query])
                if query.next_offset >= until:
                    return True
            if time.monotonic() >= deadline:
                return False
            await sleep(POLL_S)

    async def _ask(self, queries: Sequence[_Query]) -> None:
        known = await self._rows.progress(sorted({query.place for query in queries}), self._timeout_s)
        for query in queries:
            query.next_offset = known.get(query.place, 0)

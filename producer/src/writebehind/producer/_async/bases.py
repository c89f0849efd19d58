"""The rows that increments need first: an increment of an entry that does not hold its field has nothing to add to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from writebehind.shared.errors import DatabaseDown

from ..backends.aio import sleep
from ..breaker import Breaker
from ..overlay import fill_patch
from ..write import Target, Write
from .cache import AsyncCache
from .rows import AsyncRows

WAIT_S = 0.02  # between two looks at a base that somebody else is loading
REST_S = 1.0  # after the database did not give one: increments that need a base do without, rather than wait


class AsyncBases:
    """Loads them. One per client."""

    def __init__(self, cache: AsyncCache, rows: AsyncRows) -> None:
        self._cache = cache
        self._rows = rows
        self._breaker = Breaker(1, REST_S)

    async def load(self, target: Target, writes: Sequence[Write], timeout_s: float) -> None:
        """Load the rows that increments need and fill their entries. Raises DatabaseDown or CacheDown."""
        ours = {write.entry: write for write in writes if write.needs_base}
        if not ours:
            if self._breaker.is_open:
                raise _resting(target)
            await sleep(WAIT_S)
            return
        rows = await self._select(target, [write.key for write in ours.values()], timeout_s)
        by_token: dict[str, list[Write]] = {}
        for write in ours.values():
            by_token.setdefault(write.needs_base or "", []).append(write)
        for token, group in by_token.items():
            patches = [fill_patch(target.declaration, rows.get(write.key)) for write in group]
            await self._cache.run(target.scripts.fill([write.entry for write in group], patches, token=token))

    async def _select(
        self, target: Target, keys: Sequence[tuple[Any, ...]], timeout_s: float
    ) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        """Rows by key. Raises DatabaseDown, at once while the database rests."""
        if not self._breaker.allows(time.monotonic()):
            raise _resting(target)
        try:
            rows = await self._rows.select(target.declaration, keys, timeout_s)
        except DatabaseDown:
            self._breaker.failed(time.monotonic())
            raise
        except BaseException:
            self._breaker.withdrawn()
            raise
        self._breaker.succeeded()
        return rows


def _resting(target: Target) -> DatabaseDown:
    return DatabaseDown(f"{target.declaration.name}: the database did not answer a moment ago")

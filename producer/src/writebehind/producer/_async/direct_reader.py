"""The read path of cache-aside and write-through: the entry, or one reader who loads the row for all."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from writebehind.shared import direct
from writebehind.shared.direct import State
from writebehind.shared.entity import Entity
from writebehind.shared.errors import DatabaseDown
from writebehind.shared.settings import Settings

from ..backends.aio import Combiner, Runtime, sleep
from ..direct_write import DirectTarget, Row
from ..overlay import overlay
from ..tokens import Tokens
from .cache import CacheDown
from .direct_cache import KEYS_PER_CALL, AsyncDirectCache
from .rows import AsyncRows

log = logging.getLogger("writebehind.producer")

LOOK_MIN_S, LOOK_MAX_S = 0.002, 0.02  # between two looks at an entry that somebody else is loading


class _Read:
    """One entry to read. `row` once it was loaded."""

    __slots__ = ("entry", "fields", "key", "loaded", "row", "state", "token")

    def __init__(self, target: DirectTarget, key: tuple[Any, ...]) -> None:
        self.key = key
        self.entry = target.entry(target.declaration.key_text(key))
        self.state = State.BYPASS
        self.fields: dict[str, str] = {}
        self.token = ""
        self.loaded = False
        self.row: Row | None = None


class AsyncDirectReader:
    """Reads entities. One per client."""

    def __init__(self, settings: Settings, cache: AsyncDirectCache, rows: AsyncRows, runtime: Runtime) -> None:
        self._timeout_s = settings.producer.timeout_s
        self._lease_us = int(settings.cache.lease_s * 1e6)
        self._load_wait_s = settings.cache.load_wait_s
        self._cache = cache
        self._rows = rows
        self._runtime = runtime
        self._tokens = Tokens()
        self._looks: dict[str, Combiner[_Read]] = {}
        self._selects: dict[str, Combiner[_Read]] = {}

    async def get_many(self, target: DirectTarget, keys: Sequence[tuple[Any, ...]]) -> list[Entity | None]:
        """One entity or None per key, in order. Raises DatabaseDown when the cache alone cannot tell."""
        reads = [_Read(target, key) for key in keys]
        await self._look(target, reads)
        missing = [read for read in reads if read.state is not State.HIT]
        if missing:
            await self._load(target, [read for read in missing if read.state is not State.WAIT])
            await self._wait(target, [read for read in missing if read.state is State.WAIT])
        return [overlay(target.declaration, r.key, {} if r.loaded else r.fields, r.row) for r in reads]

    async def _wait(self, target: DirectTarget, reads: Sequence[_Read]) -> None:
        """Somebody else loads these. Look again for a while, then read the rows without filling."""
        deadline, delay_s = time.monotonic() + self._load_wait_s, LOOK_MIN_S
        while reads and time.monotonic() < deadline:
            await sleep(delay_s)
            delay_s = min(2 * delay_s, LOOK_MAX_S)
            await self._look(target, reads)
            await self._load(target, [read for read in reads if read.state in (State.LOAD, State.BYPASS)])
            reads = [read for read in reads if read.state is State.WAIT]
        await self._load(target, reads)

    async def _load(self, target: DirectTarget, reads: Sequence[_Read]) -> None:
        """Load rows, and fill those entries that are ours to fill. Raises DatabaseDown."""
        if not reads:
            return
        try:
            await self._select(target, reads)
        except DatabaseDown:
            if not all(read.fields for read in reads):  # what is loaded before it expires still counts
                raise

    async def _fill(self, target: DirectTarget, reads: Sequence[_Read], load_us: int) -> None:
        await self._cache.behind.step_back()
        by_token: dict[str, list[_Read]] = {}
        for read in reads:
            by_token.setdefault(read.token, []).append(read)
        for token, group in by_token.items():
            rows = [target.filling(read.row, load_us) for read in group]
            try:
                await self._cache.run(direct.fill([read.entry for read in group], rows, token=token))
            except CacheDown:
                log.info("%s: %d entries not filled", target.name, len(group))

    async def _look(self, target: DirectTarget, reads: Sequence[_Read]) -> None:
        combiner = self._looks.get(target.name)
        if combiner is None:

            async def look(waiting: Sequence[_Read]) -> None:
                await self._ask(target, waiting)

            combiner = self._looks[target.name] = Combiner(look, KEYS_PER_CALL, at_once=True)
        for start in range(0, len(reads), KEYS_PER_CALL):
            await combiner.submit(reads[start : start + KEYS_PER_CALL])

    async def _ask(self, target: DirectTarget, reads: Sequence[_Read]) -> None:
        """Entries of all concurrent callers in one call. An entry that cannot be had is bypassed."""
        token = self._tokens.one()
        early = direct.earliness(target.early_beta)
        keys = [read.entry for read in reads]
        try:
            reply = await self._cache.look(direct.read(keys, token=token, lease_us=self._lease_us, early=early))
        except CacheDown:
            for read in reads:
                read.state, read.fields = State.BYPASS, {}
            return
        for read, found in zip(reads, direct.read_found(reply), strict=True):
            read.state, read.fields, read.token = found.state, found.fields, token

    async def _select(self, target: DirectTarget, reads: Sequence[_Read]) -> None:
        """Rows of all concurrent readers of an entity in one SELECT at a time: a dead cache does not stampede."""
        combiner = self._selects.get(target.name)
        if combiner is None:

            async def select(waiting: Sequence[_Read]) -> None:
                keys = list({read.key: None for read in waiting})
                started = time.perf_counter()
                rows = await self._rows.select(target.declaration, keys, self._timeout_s)
                for read in waiting:
                    read.row, read.loaded = rows.get(read.key), True
                ours = [read for read in waiting if read.state is State.LOAD]
                if ours:  # until they are filled, others find our lease: our readers need not wait
                    load_us = max(1, int((time.perf_counter() - started) * 1e6))
                    self._runtime.send_off(self._fill, target, ours, load_us)

            combiner = self._selects[target.name] = Combiner(select, KEYS_PER_CALL)
        for start in range(0, len(reads), KEYS_PER_CALL):
            await combiner.submit(reads[start : start + KEYS_PER_CALL])

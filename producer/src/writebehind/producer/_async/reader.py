"""The read path: the cache, and the row where the entry is absent or partial."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from writebehind.shared.bookkeeping import is_complete
from writebehind.shared.entity import Entity
from writebehind.shared.scripts import read_entries
from writebehind.shared.settings import Settings

from ..backends.aio import Combiner
from ..overlay import fill_patch, overlay
from ..tokens import Tokens
from ..write import Target
from .cache import AsyncCache, CacheDown
from .rows import AsyncRows

log = logging.getLogger("writebehind.producer")

KEYS_PER_CALL = 1_000


class Read:
    """One entry to read. `fields` is None when the cache could not be asked."""

    __slots__ = ("entry", "fields", "key", "token")

    def __init__(self, target: Target, key: tuple[Any, ...]) -> None:
        self.key = key
        self.entry = target.entry(target.declaration.key_text(key))
        self.fields: dict[str, str] | None = None
        self.token: str | None = None

    @property
    def complete(self) -> bool:
        return self.fields is not None and is_complete(self.fields)


class AsyncReader:
    """Reads entities. One per client."""

    def __init__(self, settings: Settings, cache: AsyncCache, rows: AsyncRows) -> None:
        self._timeout_s = settings.producer.timeout_s
        self._lease_us = int(settings.cache.lease_s * 1e6)
        self._cache = cache
        self._rows = rows
        self._tokens = Tokens()
        self._combiner: Combiner[Read] = Combiner(self._fetch, KEYS_PER_CALL, at_once=True)

    async def get_many(self, target: Target, keys: Sequence[tuple[Any, ...]]) -> list[Entity | None]:
        """One entity or None per key, in order. Raises DatabaseDown when the cache alone cannot tell."""
        reads = [Read(target, key) for key in keys]
        for start in range(0, len(reads), KEYS_PER_CALL):
            await self._combiner.submit(reads[start : start + KEYS_PER_CALL])
        missing = [read for read in reads if not read.complete]
        rows = await self._load(target, missing) if missing else {}
        return [overlay(target.declaration, read.key, read.fields or {}, rows.get(read.key)) for read in reads]

    async def _fetch(self, reads: Sequence[Read]) -> None:
        """Entries of all concurrent callers in one pipeline."""
        try:
            entries = await self._cache.read([read.entry for read in reads])
        except CacheDown:
            return
        for read, fields in zip(reads, entries, strict=True):
            if not self._cache.is_suspect(read.entry):
                read.fields = fields

    async def _load(self, target: Target, reads: Sequence[Read]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        """Rows of entries that are absent or partial; fills those for which we got the token."""
        token = self._tokens.one()
        asked = [read for read in reads if read.fields is not None]
        try:
            await self._lease(target, asked, token)
        except CacheDown:
            asked = []
        wanted = [read for read in reads if not read.complete]
        if not wanted:
            return {}
        rows = await self._rows.select(target.declaration, list({read.key: None for read in wanted}), self._timeout_s)
        granted = [read for read in asked if read.token is not None]
        if granted:
            patches = [fill_patch(target.declaration, rows.get(read.key)) for read in granted]
            try:
                await self._cache.run(target.scripts.fill([read.entry for read in granted], patches, token=token))
            except CacheDown:
                log.info("%s: %d entries not filled", target.topic, len(granted))
        return rows

    async def _lease(self, target: Target, reads: Sequence[Read], token: str) -> None:
        """Read the entries once more, now with the right to fill those that nobody else is filling."""
        if not reads:
            return
        reply = await self._cache.run(
            target.scripts.lease([read.entry for read in reads], token=token, lease_us=self._lease_us)
        )
        for read, entry in zip(reads, read_entries(reply), strict=True):
            read.fields = entry.fields
            read.token = token if entry.granted and not read.complete else None

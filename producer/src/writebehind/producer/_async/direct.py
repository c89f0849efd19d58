"""Cache-aside and write-through: announce the write, write the row, then let the entry show it or stay empty."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg_pool import PoolTimeout

from writebehind.shared import direct as scripts
from writebehind.shared.declaration import declaration_of
from writebehind.shared.direct import How
from writebehind.shared.entity import Entity
from writebehind.shared.errors import NotApplied, Unknown
from writebehind.shared.invalidation import Invalidation
from writebehind.shared.settings import Settings

from ..backends.aio import Runtime
from ..database_errors import translated
from ..direct_write import DirectTarget, DirectWrite, Row, Verb, checked
from ..invalidator import Invalidator
from .cache import CacheDown
from .direct_cache import AsyncDirectCache
from .direct_reader import AsyncDirectReader
from .direct_rows import AsyncDirectRows, Connection
from .guard import AsyncGuards, Guard, Place, life_s
from .lent import AsyncLent
from .receipt import AsyncReceipt
from .rows import AsyncRows

log = logging.getLogger("writebehind.producer")


class AsyncDirectClient:
    """The entities whose rows the callers write themselves. One per client."""

    def __init__(self, settings: Settings, rows: AsyncRows, runtime: Runtime) -> None:
        self._settings = settings
        self._runtime = runtime
        self._pool = rows.pool
        self.cache = AsyncDirectCache(settings, life_s(settings))
        self._rows = AsyncDirectRows(rows)
        self._invalidator = Invalidator(settings)
        self._guards = AsyncGuards(settings, self.cache, self._invalidator, runtime)
        self._reader = AsyncDirectReader(settings, self.cache, rows, runtime)
        self._targets: dict[type[Entity], DirectTarget] = {}
        # What is to be done once the caller's own transaction is committed.
        self._pending: WeakKeyDictionary[Connection, list[tuple[Guard, list[DirectWrite]]]] = WeakKeyDictionary()

    @property
    def topic(self) -> str:
        """Where invalidations go while the cache cannot be told."""
        return self._invalidator.topic

    def target(self, entity: type[Entity]) -> DirectTarget:
        target = self._targets.get(entity)
        if target is None:
            target = self._targets[entity] = DirectTarget(declaration_of(entity), self._settings.cache.prefix)
        return target

    def checked(self, target: DirectTarget, verb: Verb, key: Any, patch: Mapping[str, Any]) -> DirectWrite:
        """A checked write. Raises InvalidWrite."""
        return checked(target, verb, key, patch, bytes_max=self._settings.cache.patch_bytes_max)

    async def write(
        self,
        target: DirectTarget,
        writes: list[DirectWrite],
        timeout_s: float | None,
        connection: Connection | None = None,
    ) -> list[AsyncReceipt]:
        """Carry out checked writes, all or none. Raises Refused, NotApplied, Unknown, ConfigurationError."""
        limit_s = timeout_s or self._settings.producer.timeout_s
        if connection is None:
            await self._runtime.to_the_end(self._write, target, writes, limit_s)
        else:
            await self._runtime.to_the_end(self._write_within, target, writes, limit_s, connection)
        return [AsyncReceipt(target.name, w.key_text, 0 if w.row is None else w.row[-1] or 0) for w in writes]

    async def get_many(self, target: DirectTarget, keys: Sequence[Any]) -> list[Entity | None]:
        check = target.declaration.check_key
        return await self._reader.get_many(target, [check(key) for key in keys])

    async def invalidate(self, target: DirectTarget, keys: Sequence[Any]) -> None:
        """Forget entries whose rows somebody else changed. Raises NotApplied when nobody can be told."""
        texts = [target.declaration.key_text(target.declaration.check_key(key)) for key in keys]
        await self.forget(target.name, {text: target.entry(text) for text in texts})

    async def forget(self, name: str, entries: Mapping[str, str]) -> None:
        """Empty entries, given by key text. Raises NotApplied when nobody can be told."""
        try:
            await self.cache.run(scripts.void(list(entries.values())))
        except CacheDown:
            records = [Invalidation(name, text, "-") for text in entries]
            limit_s = self._settings.producer.timeout_s
            if not await self._runtime.in_thread(self._invalidator.send, records, limit_s):
                raise NotApplied(f"{name}: neither the cache nor the broker takes the invalidation") from None

    async def committed(self, connection: Connection) -> None:
        """The transaction of this connection is committed: let the entries of its writes go."""
        await self._runtime.to_the_end(self._end_all, connection, "drop")

    async def rolled_back(self, connection: Connection) -> None:
        """The transaction of this connection is rolled back: the entries were right."""
        await self._runtime.to_the_end(self._end_all, connection, "undone")

    async def close(self) -> None:
        await self._runtime.in_thread(self._invalidator.close)
        await self.cache.close()

    async def _write(self, target: DirectTarget, writes: list[DirectWrite], timeout_s: float) -> None:
        declaration = target.declaration
        statements = await self._rows.statements(declaration, timeout_s)
        try:
            # The connection comes first: an intent must not wait for one.
            async with AsyncLent(await self._pool(), timeout_s, self._runtime) as connection:
                guard = await self._guards.open(target, writes, timeout_s)
                try:
                    limit_s = min(timeout_s, self._settings.database.statement_timeout_s)
                    await self._rows.write(connection, declaration, statements, writes, limit_s)
                except Unknown:
                    raise  # it may yet be committed: the intent must run out
                except BaseException:
                    await self._guards.end(guard, "undone", {})
                    raise
        except (psycopg.Error, PoolTimeout, OSError) as error:
            raise translated(declaration, error, sent=False) from error
        await self._end(guard, writes, "put" if target.puts else "drop")

    async def _write_within(
        self, target: DirectTarget, writes: list[DirectWrite], timeout_s: float, connection: Connection
    ) -> None:
        """In the caller's transaction: what is to be done in the cache waits for their commit."""
        statements = await self._rows.statements(target.declaration, timeout_s)
        guard = await self._guards.open(target, writes, timeout_s)
        try:
            await self._rows.run(connection, target.declaration, statements, writes)
        except (psycopg.Error, OSError) as error:
            await self._guards.end(guard, "undone", {})
            raise translated(target.declaration, error, sent=False) from error
        except BaseException:
            await self._guards.end(guard, "undone", {})
            raise
        self._pending.setdefault(connection, []).append((guard, writes))

    async def _end_all(self, connection: Connection, how: How) -> None:
        for guard, writes in self._pending.pop(connection, []):
            await self._end(guard, writes, how)

    async def _end(self, guard: Guard, writes: list[DirectWrite], how: How) -> None:
        """A row that was deleted has no version any more: nobody who was under way may put what there was."""
        target = guard.places[0].target
        rows: dict[Place, Row] = {}
        for write in writes:
            if write.verb == "delete" and how != "undone":
                how = "void"
            if write.row is not None:
                rows[Place(target, write.key_text)] = write.row
        await self._guards.end(guard, how, rows)

"""The client that services use."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from writebehind.shared.declaration import declaration_of
from writebehind.shared.entity import Entity
from writebehind.shared.errors import ClientClosed, InvalidWrite, PartlyFailed, Unknown
from writebehind.shared.settings import Settings, load_settings
from writebehind.shared.strategy import Direct

from ..backends.aio import Runtime
from ..direct_write import DirectTarget, DirectWrite, Verb
from ..forks import Process
from ..loader import Loader
from ..measures import Watched, of_process
from ..report import CloseReport
from ..tracing import Call, span_of
from ..write import NOWHERE, Target, Write, check_add, check_delete, check_update
from .cache import AsyncCache
from .direct import AsyncDirectClient
from .direct_rows import Connection
from .loads import AsyncLoads
from .progress import AsyncProgress
from .reader import AsyncReader
from .receipt import AsyncReceipt
from .rows import AsyncRows
from .transaction import AsyncTransaction
from .writer import AsyncWriter

log = logging.getLogger("writebehind.producer")

E = TypeVar("E", bound=Entity)
Wait = Literal["acknowledged", "enqueued"]


class AsyncClient:
    """Reads and writes entities by the strategy each one declares.

    Open it with `async with AsyncClient.open() as client:` or `client = await AsyncClient.open().start()`, after
    any fork. One client
    serves all tasks of an event loop; calls that run at the same time share their round trips.
    """

    def __init__(
        self, settings: Settings, on_delivery_failed: Callable[[AsyncReceipt, Exception], None] | None = None
    ) -> None:
        self._settings = settings
        self._on_delivery_failed = on_delivery_failed
        self._targets: dict[type[Entity], Target] = {}
        self._pid = 0
        self._state: Literal["new", "open", "closed"] = "new"
        self._undelivered: list[tuple[str, str, int, Exception]] = []
        self._measures = of_process()

    @classmethod
    def open(
        cls,
        settings: Settings | None = None,
        *,
        on_delivery_failed: Callable[[AsyncReceipt, Exception], None] | None = None,
    ) -> Self:
        """A client for these settings (default: the environment's); connect it with `start` or as a context manager.

        on_delivery_failed: called with the receipt and the error of a write that failed when nobody waited for it any
            more: after a time-out, and with `wait="enqueued"`, where nothing else tells of it. The cache does not
            show the write any more when the error is NotApplied. It must not block.
        Raises ConfigurationError.
        """
        return cls(settings or load_settings(), on_delivery_failed)

    async def start(self) -> Self:
        """Connect.

        Raises ConfigurationError when the cache is a cluster or may evict entries with pending writes, or librdkafka
        refuses an option.
        """
        self._pid = Process.number
        self._runtime = Runtime()
        self._cache = AsyncCache(self._settings.cache)
        self._rows = AsyncRows(self._settings.database)
        try:
            await self._cache.check_server()
            self._writer = AsyncWriter(self._settings, self._cache, self._rows, self._runtime)
        except BaseException:
            await self._cache.close()
            raise
        self._reader = AsyncReader(self._settings, self._cache, self._rows)
        self._writer.on_failed = self._failed_unattended
        self._direct = AsyncDirectClient(self._settings, self._rows, self._runtime)
        self._loads = AsyncLoads(self._settings.cache, self._direct.cache)
        self._progress = AsyncProgress(
            self._rows, self._writer.outbox, self._runtime, self._settings.producer.timeout_s
        )
        self._watched = Watched(self._writer.outbox, {"write_behind": self._cache, "direct": self._direct.cache})
        self._measures.watch(self._watched)
        self._state = "open"
        return self

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, timeout_s: float | None = None) -> CloseReport:
        """Stop accepting calls, drain what is under way, and tell what could not be delivered.

        timeout_s: longest wait for the broker, in seconds (default: producer.close_timeout_s).
        """
        if self._state != "open":
            return CloseReport([])
        self._state = "closed"
        await self._runtime.in_thread(
            self._writer.outbox.close, self._settings.producer.close_timeout_s if timeout_s is None else timeout_s
        )
        await self._runtime.join(5.0)
        await self._direct.close()
        await self._cache.close()
        await self._rows.close()
        self._measures.unwatch(self._watched)
        for entity, key, version, failure in self._undelivered:
            log.error(
                "not delivered at close: %s version %d (key of %d characters): %s", entity, version, len(key), failure
            )
        return CloseReport(self._undelivered)

    async def update(
        self,
        entity: type[Entity],
        key: Any,
        /,
        *,
        wait: Wait = "acknowledged",
        timeout_s: float | None = None,
        connection: Connection | None = None,
        **patch: Any,
    ) -> AsyncReceipt:
        """Write some fields of a row; each value is merged as its field declares: Last replaces, Sum adds,
        Max and Min compare.

        A cache-aside or write-through row must be there (`create` adds one); a write-behind one that is missing is
        inserted by the flusher, unless its `on_missing` says otherwise.
        key: the key's value; a tuple, or a mapping by column, when it is composite.
        wait: "acknowledged" returns when the broker has the record; "enqueued" when it is on its way: what fails later
            is told to `on_delivery_failed` of `open` alone. Only for write-behind: the others return when the row is
            written.
        timeout_s: longest call, in seconds (default: producer.timeout_s).
        connection: write the row in the transaction that is open there; see `transaction`. Not for write-behind.
        Raises InvalidWrite or Refused, RowMissing (nothing written), NotApplied or Shed (nothing applied, try again),
        Unknown (applied once or not at all).
        """
        if (direct := self._directly(entity, connection)) is not None:
            return await self._write(direct, "update", key, patch, timeout_s, connection)
        target = await self._target(entity)
        return await self._one(target, check_update(target, key, patch, size_max=self._size_max), wait, timeout_s)

    async def add(
        self,
        entity: type[Entity],
        key: Any,
        /,
        *,
        wait: Wait = "acknowledged",
        timeout_s: float | None = None,
        connection: Connection | None = None,
        **deltas: Any,
    ) -> AsyncReceipt:
        """Add to Sum fields, all in one write. Like `update`, but refuses fields that are not declared Sum.

        Raises as `update` does.
        """
        if (direct := self._directly(entity, connection)) is not None:
            return await self._write(direct, "add", key, deltas, timeout_s, connection)
        target = await self._target(entity)
        return await self._one(target, check_add(target, key, deltas, size_max=self._size_max), wait, timeout_s)

    async def create(
        self,
        entity: type[Entity],
        key: Any,
        /,
        *,
        wait: Wait = "acknowledged",
        timeout_s: float | None = None,
        connection: Connection | None = None,
        **fields: Any,
    ) -> AsyncReceipt:
        """Add a row; what is left out gets the table's default. Refused when there is one of this key.

        Write-behind cannot know whether there is one: there it is the same as `update`. Raises as `update` does.
        """
        if (direct := self._directly(entity, connection)) is not None:
            return await self._write(direct, "create", key, fields, timeout_s, connection)
        return await self.update(entity, key, wait=wait, timeout_s=timeout_s, **fields)

    async def delete(
        self,
        entity: type[Entity],
        key: Any,
        /,
        *,
        wait: Wait = "acknowledged",
        timeout_s: float | None = None,
        connection: Connection | None = None,
    ) -> AsyncReceipt:
        """Delete a row; it is no error when there is none. Raises as `update` does.

        A write-behind entity must be declared with `deletes=True`.
        """
        if (direct := self._directly(entity, connection)) is not None:
            return await self._write(direct, "delete", key, {}, timeout_s, connection)
        target = await self._target(entity)
        return await self._one(target, check_delete(target, key), wait, timeout_s)

    async def update_many(
        self,
        entity: type[Entity],
        patches: Iterable[tuple[Any, Mapping[str, Any]]],
        /,
        *,
        wait: Wait = "acknowledged",
        timeout_s: float | None = None,
        connection: Connection | None = None,
    ) -> list[AsyncReceipt]:
        """Many updates of one entity, as (key, patch) pairs; one receipt each, in order.

        All are checked before any is written. Those of a cache-aside or write-through entity are written all or
        none, in one transaction.
        Raises as `update` does; for write-behind PartlyFailed when some failed and others did not.
        """
        if (direct := self._directly(entity, connection)) is not None:
            checked = [self._direct.checked(direct, "update", key, patch) for key, patch in patches]
            return await self._write_direct(direct, checked, timeout_s, connection) if checked else []
        target = await self._target(entity)
        size_max = self._size_max
        writes = [check_update(target, key, patch, size_max=size_max) for key, patch in patches]
        if not writes:
            return []
        failures = await self._carry_out(target, writes, wait, timeout_s)
        if not failures:
            return [self._receipt(write) for write in writes]
        receipts = {index: self._receipt(write) for index, write in enumerate(writes) if index not in failures}
        raise PartlyFailed(receipts, failures)

    async def get(self, entity: type[E], key: Any, /) -> E | None:
        """The row with what is pending, or None when there is none.

        While the cache is away, or after it lost its data, a write-behind row is shown as the database has it, which
        lags until what is in Kafka is flushed. One of the other strategies is as the last write left it.
        Raises InvalidWrite for a bad key, DatabaseDown.
        """
        if (direct := self._directly(entity)) is not None:
            return (await self._direct.get_many(direct, [key]))[0]  # type: ignore[return-value]  # as below
        target = await self._target(entity)
        found = await self._reader.get_many(target, [target.declaration.check_key(key)])
        return found[0]  # type: ignore[return-value]  # instances of the class that was asked for

    async def get_many(self, entity: type[E], keys: Sequence[Any], /) -> dict[Any, E]:
        """The rows that exist, by the keys as given: as many calls of `get`, in few round trips.

        Raises InvalidWrite for a bad key, DatabaseDown.
        """
        if (direct := self._directly(entity)) is not None:
            found = await self._direct.get_many(direct, keys)
        else:
            target = await self._target(entity)
            found = await self._reader.get_many(target, [target.declaration.check_key(key) for key in keys])
        return {key: row for key, row in zip(keys, found, strict=True) if row is not None}  # type: ignore[misc]  # as in get

    def transaction(self, connection: Connection | None = None, *, timeout_s: float | None = None) -> AsyncTransaction:
        """A transaction for writes of cache-aside and write-through entities beside statements of your own.

            async with client.transaction() as connection:
                await connection.execute("INSERT INTO orders ...")
                await client.update(Player, 42, name="Ada", connection=connection)

        connection: yours, with no transaction open; by default one of the client's pool.
        timeout_s: longest wait for a connection of the pool, in seconds (default: producer.timeout_s).
        Commits at the end; then the entries of what was written are dropped. An exception rolls everything back.
        Between a write and the end its entry is read from the database.
        Raises NotApplied or Unknown when the commit failed.
        """
        self._check_usable()
        limit_s = timeout_s or self._settings.producer.timeout_s
        return AsyncTransaction(self._direct, self._rows, self._runtime, connection, limit_s)

    async def committed(self, connection: Connection) -> None:
        """Tell that you committed the transaction in which you wrote with `connection=...`: the entries are dropped.

        Without it they stay empty, and are read from the database, for database.statement_timeout_s + 5 seconds.
        """
        await self._direct.committed(connection)

    async def rolled_back(self, connection: Connection) -> None:
        """Tell that you rolled it back. See `committed`."""
        await self._direct.rolled_back(connection)

    async def invalidate(self, entity: type[Entity], *keys: Any) -> None:
        """Forget the cache entries of rows that were changed by other means. Only for cache-aside and write-through.

        Raises NotApplied when neither the cache nor the broker can be told.
        """
        direct = self._directly(entity)
        if direct is None:
            raise InvalidWrite(entity.__name__, None, "invalidate", "a write-behind entry may hold what no row has yet")
        await self._direct.invalidate(direct, keys)

    async def loaded(self, loader: Loader, key_text: str, run: Callable[[], Any]) -> Any:
        """What a function made by `cached` calls."""
        self._check_usable()
        return await self._loads.get(loader, key_text, run)

    async def unloaded(self, loader: Loader, key_text: str) -> None:
        """What its `invalidate` calls."""
        self._check_usable()
        await self._direct.forget(loader.name, {key_text: self._loads.entry(loader, key_text)})

    def _directly(self, entity: type[Entity], connection: Connection | None = None) -> DirectTarget | None:
        """What is needed to write this entity's rows ourselves; None when it is write-behind."""
        self._check_usable()
        if isinstance(entity.__strategy__, Direct):
            return self._direct.target(entity)
        if connection is not None:
            rule = "a write-behind entity cannot be written in your transaction: its row is written later"
            raise InvalidWrite(entity.__name__, None, "connection", rule)
        return None

    async def _write(
        self,
        target: DirectTarget,
        verb: Verb,
        key: Any,
        patch: Mapping[str, Any],
        timeout_s: float | None,
        connection: Connection | None,
    ) -> AsyncReceipt:
        write = self._direct.checked(target, verb, key, patch)
        return (await self._write_direct(target, [write], timeout_s, connection))[0]

    async def _write_direct(
        self,
        target: DirectTarget,
        writes: list[DirectWrite],
        timeout_s: float | None,
        connection: Connection | None,
    ) -> list[AsyncReceipt]:
        done = "acknowledged" if connection is None else "uncommitted"
        with Call(self._measures, target.name, len(writes), done):
            return await self._direct.write(target, writes, timeout_s, connection)

    async def _one(self, target: Target, write: Write, wait: Wait, timeout_s: float | None) -> AsyncReceipt:
        """`_carry_out` of one write, which costs a tenth less here: there is no dict of failures to make."""
        writes = [write]
        with Call(self._measures, target.name, 1, wait, span_of(writes)):
            await self._writer.carry_out(
                target, writes, wait=wait == "acknowledged", timeout_s=timeout_s or self._settings.producer.timeout_s
            )
            if write.partition == NOWHERE and (failure := self._failure(write, wait)) is not None:
                raise failure
        return self._receipt(write)

    async def _carry_out(
        self, target: Target, writes: Sequence[Write], wait: Wait, timeout_s: float | None
    ) -> dict[int, Exception]:
        """Gives what failed, by index. Raises what nothing was touched for."""
        with Call(self._measures, target.name, len(writes), wait, span_of(writes)) as call:
            await self._writer.carry_out(
                target, writes, wait=wait == "acknowledged", timeout_s=timeout_s or self._settings.producer.timeout_s
            )
            failures = {
                index: failure
                for index, write in enumerate(writes)
                if write.partition == NOWHERE and (failure := self._failure(write, wait)) is not None
            }
            call.failures = failures.values()
        return failures

    def _failure(self, write: Write, wait: Wait) -> Exception | None:
        """Of a write that is nowhere."""
        failure = write.outcome()
        if failure is None and wait == "acknowledged":
            name = write.target.declaration.cls.__name__
            return Unknown(
                f"{name}: the broker did not answer in time; the write is applied once or not at all",
                write.version or None,
            )
        return failure

    def _receipt(self, write: Write) -> AsyncReceipt:
        return AsyncReceipt(write.target.name, write.key_text, write.version, write, self._progress)

    def _failed_unattended(self, write: Write, failure: Exception) -> None:
        self._measures.failed_late(write.target.declaration.name, failure)
        if self._state == "closed":
            self._undelivered.append((write.target.declaration.name, write.key_text, write.version, failure))
        if self._on_delivery_failed is not None:
            try:
                self._on_delivery_failed(self._receipt(write), failure)
            except Exception:
                log.exception("on_delivery_failed raised")

    @property
    def _size_max(self) -> int:
        return self._settings.kafka.max_message_bytes

    async def _target(self, entity: type[Entity]) -> Target:
        """Made, and its topic looked for, at the first use of an entity."""
        target = self._targets.get(entity)
        if target is not None:
            return target
        target = Target(declaration_of(entity), self._settings.kafka.topic_prefix, self._settings.cache.prefix)
        await self._runtime.in_thread(self._writer.outbox.check_topic, target.topic)
        self._targets[entity] = target
        return target

    def _check_usable(self) -> None:
        if self._state == "open" and self._pid == Process.number:
            return
        if self._state == "open":
            raise ClientClosed(
                "this client was opened before the process was forked; open one in each worker, after the fork"
            )
        raise ClientClosed(
            "this client is closed"
            if self._state == "closed"
            else "this client is not started: use `async with`, or start()"
        )

"""The audit's view of the database: rows by key from the primary, on a connection that is replaced when lost."""

from __future__ import annotations

import datetime as dt
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format

from writebehind.shared import kinds, table, utc
from writebehind.shared.declaration import Declaration
from writebehind.shared.errors import ConfigurationError, InvalidWrite
from writebehind.shared.settings import DatabaseSettings
from writebehind.shared.statement import Statements

from .. import servers, watchdog
from ..database import connect
from ..migrate import slots
from ..packed import pack
from ..triage import Verdict, triage
from .diff import Comparer, Row
from .outage import Outage
from .same import Beyond

T = TypeVar("T")

_INFINITY = {2**63 - 1: "infinity", -(2**63): "-infinity"}
_DAY_ZERO = dt.date(2000, 1, 1)


class Store:
    """One connection. Waits for a database that is down, unless `stop` is set, then raises ConfigurationError."""

    def __init__(self, settings: DatabaseSettings, name: str, stop: threading.Event) -> None:
        self._settings = settings
        self._name = name
        self._stop = stop
        self._connection: psycopg.Connection[Any] | None = None
        self._known = False  # it has answered before: else it is not away, but not there

    def run(self, work: Callable[[psycopg.Connection[Any]], T]) -> T:
        """Do something on the connection, again and again while the database is away: it must bear being done twice."""
        outage = Outage(self._stop)
        while True:
            try:
                connection = self._connected()
                with watchdog.guard(connection, self._settings.stall_timeout_s):
                    return work(connection)
            except psycopg.Error as error:
                self.close()
                away = self._known and triage(error) is Verdict.TRANSIENT
                if not away or outage.over():
                    with servers.database_told(self._settings):
                        raise

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            settings = self._settings
            connection = connect(
                settings.url.get_secret_value(),
                name=self._name,
                statement_timeout_s=settings.statement_timeout_s,
                lock_timeout_s=settings.lock_timeout_s,
            )
            connection.adapters.register_loader("timestamptz", _AnyTimestamp)
            connection.adapters.register_loader("date", _AnyDate)
            row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
            if row is not None and row[0]:
                connection.close()
                raise ConfigurationError(
                    "this database is a replica, which lags: everything would look like drift. "
                    "Give the primary's address in WRITEBEHIND_DATABASE__URL"
                )
            self._connection, self._known = connection, True
        return self._connection


class Table:
    """One entity's rows, and the comparison of entries with them."""

    def __init__(self, store: Store, declaration: Declaration, bookkeeping: str) -> None:
        """Reads the catalog. Raises ConfigurationError when the table is not as declared."""
        info = store.run(lambda c: table.parse(c.execute(table.QUERY, table.params(declaration)).fetchall()))
        if problems := table.problems(declaration, info):
            raise ConfigurationError("\n  ".join(["the table is not as declared:", *(p.message for p in problems)]))
        self.slots = store.run(lambda c: slots(c, bookkeeping, declaration.name))
        if lacking := [c.name for c in declaration.versioned if c.name not in self.slots]:
            raise ConfigurationError(
                f"{declaration.cls.__name__}: fields without a slot for their version: {', '.join(lacking)}; "
                "run `writebehind migrate`"
            )
        self.declaration = declaration
        self.schema = info.schema if info else ""
        defaults = {name: column.default_expr for name, column in info.columns.items()} if info else {}
        self.comparer = Comparer(declaration, self.slots, defaults)
        self._store = store
        self._loads_keys = any(c.kind.from_db is not None for c in declaration.keys)
        self._int8_key = [c.kind.name for c in declaration.keys] == ["int8"]
        self._types = [c.kind.param_type for c in declaration.keys]
        self._select = Statements.select_of(declaration, self.schema)

    def rows(self, keys: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], Row]:
        """Rows by key in wire form."""
        if not keys:
            return {}
        params = pack(self._types, [list(column) for column in zip(*keys, strict=True)])
        found = self._store.run(lambda c: c.execute(self._select, params, binary=True).fetchall())
        width = len(self.declaration.keys)
        if self._loads_keys:
            return {self.key(row[:width]): row[width:] for row in found}
        return {row[:width]: row[width:] for row in found}

    def keys_of(self, texts: Sequence[str]) -> list[tuple[Any, ...] | None]:
        """Keys in wire form from their texts; None for what no write of ours would have named an entry."""
        return list(map(self._key_of, texts))

    def _key_of(self, text: str) -> tuple[Any, ...] | None:
        try:
            if self._int8_key:  # by far the most frequent
                number = int(text)
                return (number,) if str(number) == text and kinds.INT8_MIN <= number <= kinds.INT8_MAX else None
            key = self.declaration.check_key(self.declaration.parse_key(text))
            return key if self.declaration.key_text(key) == text else None
        except (ValueError, InvalidWrite, OverflowError, UnicodeError):
            return None

    def rows_of_nobody(self) -> None:
        """Read no row at all: whether we may is found out before anything is compared. Raises ConfigurationError."""
        params = pack(self._types, [[] for _ in self._types])
        self._store.run(lambda c: c.execute(self._select, params, binary=True))

    def has_rows(self) -> bool:
        """Whether the table has any."""
        query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(self.schema, self.declaration.table))
        row = self._store.run(lambda c: c.execute(query).fetchone())
        return row is not None and bool(row[0])

    def estimated_rows(self) -> int:
        """How many rows the table has, as the server last counted them."""
        place = sql.Identifier(self.schema, self.declaration.table).as_string(None)
        query = "SELECT greatest(reltuples, 0)::int8 FROM pg_catalog.pg_class WHERE oid = %s::regclass"
        row = self._store.run(lambda c: c.execute(query, (place,)).fetchone())
        return int(row[0]) if row else 0

    def key(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """A row's key in wire form."""
        return tuple([column.loaded(value) for column, value in zip(self.declaration.keys, values, strict=True)])


class _AnyTimestamp(Loader):
    """A timestamptz in UTC, or as text what Python's datetime cannot hold."""

    format = Format.BINARY

    def load(self, data: Buffer) -> dt.datetime | Beyond:
        (micros,) = struct.unpack("!q", data)
        try:
            return utc.EPOCH + dt.timedelta(microseconds=micros)
        except OverflowError:
            return Beyond(_INFINITY.get(micros, f"{micros} µs from 2000"))


class _AnyDate(Loader):
    """A date, or as text what Python's date cannot hold."""

    format = Format.BINARY

    def load(self, data: Buffer) -> dt.date | Beyond:
        (days,) = struct.unpack("!i", data)
        try:
            return _DAY_ZERO + dt.timedelta(days=days)
        except OverflowError:
            return Beyond({2**31 - 1: "infinity", -(2**31): "-infinity"}.get(days, f"{days} days from 2000"))

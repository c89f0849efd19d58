"""A connection of the client's pool that runs a write's statement without a cursor.

What psycopg does above libpq, for any statement, takes as long as the server does for a row. These have one text per
set of fields and parameters whose types are known, so they are prepared once, and values and rows go through the
dumpers and loaders of the first time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import errors
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult
from psycopg.rows import tuple_row

from writebehind.shared.direct_statement import Statement

from ..backends.aio_answer import AsyncAnswering

PREPARED_MAX = 100  # per connection, as psycopg keeps; others are prepared each time
# The server forgot the statement (DISCARD ALL), or the table has changed since: nothing was executed.
_STALE = (errors.InvalidSqlStatementName, errors.FeatureNotSupported)


class AsyncPreparing(AsyncAnswering):
    """A connection with statements of ours. For one caller at a time, with autocommit or within a transaction."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._kept: dict[Statement, _Prepared] = {}
        self._made = 0

    async def rows(self, statement: Statement, values: Sequence[Any], timeout_s: float) -> list[tuple[Any, ...]]:
        """Run a statement that returns rows. Raises what psycopg raises."""
        prepared = self._kept.get(statement)
        if prepared is not None:
            try:
                return await self._run(prepared, values, timeout_s)
            except _STALE:
                del self._kept[statement]
        prepared = await self._prepare(statement, timeout_s)
        return await self._run(prepared, values, timeout_s)

    async def _prepare(self, statement: Statement, timeout_s: float) -> _Prepared:
        keep = len(self._kept) < PREPARED_MAX
        self._made += 1
        prepared = _Prepared(self, f"writebehind_{self._made}".encode() if keep else b"", statement)
        self.pgconn.send_prepare(prepared.name, statement.text, prepared.oids)
        self._check(await self.answer(timeout_s), ExecStatus.COMMAND_OK)
        if keep:
            self._kept[statement] = prepared
        return prepared

    async def _run(self, prepared: _Prepared, values: Sequence[Any], timeout_s: float) -> list[tuple[Any, ...]]:
        adapt = prepared.adapt
        self.pgconn.send_query_prepared(
            prepared.name, adapt.dump_sequence(values, prepared.formats), adapt.formats, Format.BINARY
        )
        result = await self.answer(timeout_s)
        self._check(result, ExecStatus.TUPLES_OK)
        adapt.set_pgresult(result, set_loaders=not prepared.has_loaders)
        prepared.has_loaders = True
        return adapt.load_rows(0, result.ntuples, tuple)

    def _check(self, result: PGresult, expected: ExecStatus) -> None:
        if result.status != expected:
            raise errors.error_from_result(result, encoding=self.info.encoding)


class _Prepared:
    """A statement that a connection has prepared, and how its values and rows are converted."""

    __slots__ = ("adapt", "formats", "has_loaders", "name", "oids")

    def __init__(self, connection: AsyncPreparing, name: bytes, statement: Statement) -> None:
        self.name = name
        self.oids = [connection.adapters.types[type_name].oid for type_name in statement.types]
        self.formats = [PyFormat.BINARY] * len(self.oids)
        self.adapt = Transformer(connection)
        self.adapt.set_dumper_types(self.oids, Format.BINARY)
        self.has_loaders = False


async def rows_of(
    connection: psycopg.AsyncConnection[Any], statement: Statement, values: Sequence[Any]
) -> list[tuple[Any, ...]]:
    """The same on any connection. A statement over arrays is planned anew: the plan of a table that was empty goes over
    all of it, and would be kept while the table grows.
    """
    cursor = psycopg.AsyncRawCursor(connection, row_factory=tuple_row)
    await cursor.execute(statement.text, values, binary=True, prepare=None if statement.types else False)
    return await cursor.fetchall()

"""The database, as cache-aside and write-through write it: one statement, or one transaction for many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout

from writebehind.shared import table
from writebehind.shared.declaration import Declaration
from writebehind.shared.direct_statement import DirectStatements, Statement, params_of
from writebehind.shared.errors import ConfigurationError, NotApplied, RowMissing

from ..database_errors import translated
from ..direct_write import DirectWrite, runs
from .lent import AsyncLent, Watched
from .prepared import AsyncPreparing, rows_of
from .rows import AsyncRows

Connection = psycopg.AsyncConnection[Any]


class AsyncDirectRows:
    """Writes rows. One per client."""

    def __init__(self, rows: AsyncRows) -> None:
        self._rows = rows
        self._statements: dict[str, DirectStatements] = {}

    async def statements(self, declaration: Declaration, timeout_s: float) -> DirectStatements:
        """The entity's statements, once its table was compared with the declaration.

        Raises ConfigurationError, or NotApplied when the database does not answer.
        """
        known = self._statements.get(declaration.name)
        if known is not None:
            return known
        try:
            async with AsyncLent(await self._rows.pool(), timeout_s) as connection:
                with Watched(connection, timeout_s):
                    cursor = await connection.execute(table.QUERY, table.params(declaration))
                    info = table.parse(await cursor.fetchall())
        except (psycopg.Error, PoolTimeout, OSError) as error:
            raise NotApplied(
                f"{declaration.name}: the database does not answer ({type(error).__name__}); nothing was written"
            ) from error
        found = table.problems(declaration, info)
        if info is None or found:
            raise ConfigurationError("; ".join(f"{one.message}. To mend it: {one.fix}" for one in found))
        types = {name: column.type_name for name, column in info.columns.items()}
        made = self._statements[declaration.name] = DirectStatements(
            declaration, schema=info.schema, column_types=types
        )
        return made

    async def write(
        self,
        connection: AsyncPreparing,
        declaration: Declaration,
        statements: DirectStatements,
        writes: list[DirectWrite],
        timeout_s: float,
    ) -> None:
        """Carry out writes in a transaction of their own: all of them, or none. Rows are noted on the writes.

        Raises Refused, RowMissing, NotApplied, ConfigurationError, or Unknown.
        """
        single = len(writes) == 1  # a statement is a transaction
        sent = single
        try:
            if single:
                _note(declaration, writes, await connection.rows(*_asked(statements, writes), timeout_s))
                return
            with Watched(connection, timeout_s):
                await connection.execute("BEGIN")
                await self.run(connection, declaration, statements, writes)
                sent = True
                cursor = await connection.execute("COMMIT")
        except (psycopg.Error, OSError) as error:
            await _rolled_back(connection)
            raise translated(declaration, error, sent=sent) from error
        except BaseException:
            await _rolled_back(connection)
            raise
        if cursor.statusmessage != "COMMIT":
            raise NotApplied(f"{declaration.cls.__name__}: the database rolled the writes back")

    async def run(
        self, connection: Connection, declaration: Declaration, statements: DirectStatements, writes: list[DirectWrite]
    ) -> None:
        """Carry out writes in the transaction that is open. Raises RowMissing, and what psycopg raises."""
        for run in runs(writes):
            _note(declaration, run, await rows_of(connection, *_asked(statements, run)))


def _asked(statements: DirectStatements, run: Sequence[DirectWrite]) -> tuple[Statement, Sequence[Any]]:
    """The statement that carries out a run of writes, and its parameters."""
    first = run[0]
    if first.verb == "create":
        return statements.insert(first.positions), first.params
    if first.verb == "delete":
        return statements.delete, first.params
    if len(run) == 1:
        return statements.update(first.positions, many=False), first.params
    return statements.update(first.positions, many=True), params_of([write.params for write in run])


def _note(declaration: Declaration, run: Sequence[DirectWrite], rows: Sequence[tuple[Any, ...]]) -> None:
    """Keep the rows that a statement gave with the writes. Raises RowMissing when one that is updated is not there."""
    first = run[0]
    if len(rows) < len(run) and first.verb in ("update", "add"):
        raise RowMissing(f"{declaration.cls.__name__}: there is no row of this key to update: create it")
    width = len(declaration.keys)
    if len(run) == 1:
        first.row = rows[0][width:] if rows else None
        return
    by_key = {row[:width]: row[width:] for row in rows}
    for write in run:
        write.row = by_key.get(write.key)


async def _rolled_back(connection: Connection) -> None:
    """Leave no transaction open; a connection that cannot be told is discarded by its pool."""
    if connection.closed or connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
        return
    try:
        await connection.execute("ROLLBACK")
    except (psycopg.Error, OSError):
        await connection.close()

"""The database, as cache-aside and write-through write it: one statement, or one transaction for many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout

from writebehind.shared import table
from writebehind.shared.declaration import Declaration
from writebehind.shared.direct_statement import DirectStatements, params_of
from writebehind.shared.errors import ConfigurationError, NotApplied, RowMissing

from ..database_errors import translated
from ..direct_write import DirectWrite, runs
from .lent import AsyncLent, Watched
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
        self, connection: Connection, declaration: Declaration, statements: DirectStatements, writes: list[DirectWrite]
    ) -> None:
        """Carry out writes in a transaction of their own: all of them, or none. Rows are noted on the writes.

        Raises Refused, RowMissing, NotApplied, ConfigurationError, or Unknown.
        """
        single = len(writes) == 1  # a statement is a transaction
        sent = single
        try:
            if single:
                await self.run(connection, declaration, statements, writes)
                return
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
        width = len(declaration.keys)
        for run in runs(writes) if len(writes) > 1 else [writes]:
            first = run[0]
            if first.verb in ("update", "add"):
                many = len(run) > 1
                text = statements.update(first.positions, many=many)
                params: Sequence[Any] = params_of([write.params for write in run]) if many else first.params
            elif first.verb == "create":
                text, params = statements.insert(first.positions), first.params
            else:
                text, params = statements.delete, first.params
            cursor = await connection.execute(text, params, binary=True)
            rows = {row[:width]: row[width:] for row in await cursor.fetchall()}
            if len(rows) < len(run) and first.verb in ("update", "add"):
                raise RowMissing(f"{declaration.cls.__name__}: there is no row of this key to update: create it")
            if len(run) == 1:
                first.row = next(iter(rows.values()), None)
                continue
            for write in run:
                write.row = rows.get(write.key)


async def _rolled_back(connection: Connection) -> None:
    """Leave no transaction open; a connection that cannot be told is discarded by its pool."""
    if connection.closed or connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
        return
    try:
        await connection.execute("ROLLBACK")
    except (psycopg.Error, OSError):
        await connection.close()

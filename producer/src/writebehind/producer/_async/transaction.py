"""A transaction of the caller's with our writes in it: the cache learns of them after the commit, or not at all."""

from __future__ import annotations

from types import TracebackType

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import PoolTimeout

from writebehind.shared.errors import ConfigurationError, NotApplied, Unknown

from ..backends.aio import Runtime
from .direct import AsyncDirectClient
from .direct_rows import Connection
from .prepared import AsyncPreparing
from .rows import AsyncRows


class AsyncTransaction:
    """`async with client.transaction() as connection:` commits at the end, and rolls back on an exception.

    On a connection of the client's pool, or on one that is given and has no transaction open.
    """

    def __init__(
        self, direct: AsyncDirectClient, rows: AsyncRows, runtime: Runtime, given: Connection | None, timeout_s: float
    ) -> None:
        self._direct = direct
        self._rows = rows
        self._runtime = runtime
        self._given = given
        self._timeout_s = timeout_s
        self._connection: Connection | None = given
        self._lent: AsyncPreparing | None = None

    async def __aenter__(self) -> Connection:
        """Raises NotApplied when the database cannot be reached."""
        try:
            connection = self._given
            if connection is None:
                connection = self._lent = await (await self._rows.pool()).getconn(self._timeout_s)
            self._connection = connection
            if connection.info.transaction_status != TransactionStatus.IDLE:
                raise ConfigurationError(
                    "this connection has a transaction open: pass it as connection=... to each write, and call "
                    "client.committed(connection) after your commit"
                )
            await connection.execute("BEGIN")
        except (psycopg.Error, PoolTimeout, OSError) as error:
            await self._give_back()
            raise NotApplied(f"the database cannot be reached ({type(error).__name__}); nothing was written") from error
        return connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # To the end: a COMMIT that is cancelled half-way has an outcome all the same.
        await self._runtime.to_the_end(self._finish, error is None)

    async def _finish(self, commit: bool) -> None:
        connection = self._connection
        assert connection is not None  # noqa: S101  # entered
        try:
            # Postgres answers the COMMIT of a transaction that has failed with ROLLBACK, and psycopg says nothing.
            failed = connection.info.transaction_status != TransactionStatus.INTRANS
            await self._end(connection, "COMMIT" if commit and not failed else "ROLLBACK", commit=commit)
        finally:
            await self._give_back()
        if commit and failed:
            raise NotApplied("a statement of the transaction had failed: all of it was rolled back")

    async def _end(self, connection: Connection, statement: str, *, commit: bool) -> None:
        try:
            await connection.execute(statement.encode())
        except psycopg.Error as error:
            if statement == "COMMIT" and connection.closed:
                raise Unknown(f"the database did not answer COMMIT ({type(error).__name__})") from error
            await self._direct.rolled_back(connection)
            if commit:
                raise NotApplied(f"the database refused COMMIT (SQLSTATE {error.sqlstate})") from error
            return  # a connection that is gone has rolled back
        if statement == "COMMIT":
            await self._direct.committed(connection)
        else:
            await self._direct.rolled_back(connection)

    async def _give_back(self) -> None:
        lent, self._lent, self._connection = self._lent, None, None
        if lent is not None:
            await (await self._rows.pool()).putconn(lent)

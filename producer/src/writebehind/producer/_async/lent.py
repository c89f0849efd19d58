"""A connection of the pool for the time of a block, and a limit to what a statement may take."""

from __future__ import annotations

import contextlib
import os
import socket
from types import TracebackType
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool

from ..backends.aio import Runtime, later
from .prepared import AsyncPreparing

Pool = AsyncConnectionPool[AsyncPreparing]


class AsyncLent:
    """A connection that goes back to its pool after the block. What the block left open is rolled back.

    The pool's own `connection()` does the same and takes twice as long. Entering raises PoolTimeout. With a runtime the
    pool has it back while the caller waits for what comes next.
    """

    __slots__ = ("_connection", "_pool", "_runtime", "_timeout_s")

    def __init__(self, pool: Pool, timeout_s: float, runtime: Runtime | None = None) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._runtime = runtime

    async def __aenter__(self) -> AsyncPreparing:
        self._connection = await self._pool.getconn(self._timeout_s)
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection = self._connection
        try:
            if connection.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                with contextlib.suppress(psycopg.Error):  # then the pool discards it
                    await connection.rollback()
        finally:
            if self._runtime is None:
                await self._pool.putconn(connection)
            else:
                self._runtime.send_off(self._pool.putconn, connection)


class Watched:
    """Cuts the connection when the server does not answer before the block's time is over.

    A server that stalls on an open connection defeats time-outs of asyncio and of the statement (psycopg#1371); a
    socket that is shut down under it ends the wait with an error.
    """

    __slots__ = ("_connection", "_timeout_s", "_timer")

    def __init__(self, connection: psycopg.AsyncConnection[Any], timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s

    def __enter__(self) -> None:
        self._timer = later(self._timeout_s, self._cut)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def _cut(self) -> None:
        with (
            contextlib.suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(self._connection.fileno())) as stalled,
        ):
            stalled.shutdown(socket.SHUT_RDWR)

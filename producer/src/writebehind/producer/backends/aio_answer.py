"""A database connection whose answer to a statement a task awaits in less time than psycopg's own wait takes."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
from psycopg import OperationalError, generators
from psycopg.pq.abc import PGresult

_TIMEOUT = "the server did not answer in time"


class AsyncAnswering(psycopg.AsyncConnection[Any]):
    """psycopg has the event loop watch a connection's socket anew for each statement; here it goes on watching, until
    psycopg waits on its own, the socket is to be closed, or something arrives that nobody asked for.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._loop = asyncio.get_running_loop()
        self._watched = -1  # the socket
        self._waiting: asyncio.Future[None] | None = None
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def answer(self, timeout_s: float) -> PGresult:
        """The result of what was sent, also when that is an error. Raises OperationalError, and then it is closed.

        A server that stalls on an open connection defeats its own time-out of the statement (psycopg#1371).
        """
        self._until = self._loop.time() + timeout_s
        answer: PGresult | None = None
        try:
            if self.pgconn.flush() != 0:
                await self.wait(generators.send(self.pgconn), timeout=timeout_s)
            while (result := await self._next()) is not None:
                answer = result
        except BaseException as error:
            await self.close()
            if answer is None or not isinstance(error, OperationalError):  # else the server said why it ended
                raise
        if answer is None:
            raise OperationalError("no result")
        return answer

    async def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        self._unwatch()
        return await super().wait(gen, *arguments, **options)

    async def close(self) -> None:
        self._unwatch()
        if self._timer is not None:
            self._timer.cancel()
        await super().close()

    async def _next(self) -> PGresult | None:
        """As PQgetResult, which would block while the connection is busy."""
        while self.pgconn.is_busy():
            await self._readable()
            self.pgconn.consume_input()
        return self.pgconn.get_result()

    async def _readable(self) -> None:
        if self._watched < 0:
            self._watched = self.pgconn.socket
            self._loop.add_reader(self._watched, self._arrived)
        if self._timer is not None and self._timer.when() > self._until:  # an earlier statement had more time
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._until, self._look_at_the_time)
        self._waiting = self._loop.create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _arrived(self) -> None:
        if self._waiting is None:
            self._unwatch()  # the connection ended, or tells something that its next user hears
        elif not self._waiting.done():
            self._waiting.set_result(None)

    def _look_at_the_time(self) -> None:
        """One timer for all statements: one that is set for each takes as long as the rest of this."""
        self._timer = None
        if self._waiting is None or self._waiting.done():
            return
        if self._until <= self._loop.time():
            self._waiting.set_exception(OperationalError(_TIMEOUT))
        else:
            self._timer = self._loop.call_at(self._until, self._look_at_the_time)

    def _unwatch(self) -> None:
        if self._watched >= 0:
            self._loop.remove_reader(self._watched)
            self._watched = -1

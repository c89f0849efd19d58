"""The asyncio client's connection to the cache: one, over which the calls of all tasks are pipelined.

redis-py makes it (addresses, TLS, users). From then on a protocol of our own talks over its transport, because what
lies above the socket there takes longer than the cache itself: a script of 210 µs takes 110. A caller who is cancelled
only stops waiting; the answer is taken off the line all the same, and nobody gets that of somebody else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as CacheConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as CacheTimeoutError
from redis.maint_notifications import MaintNotificationsConfig

from writebehind.shared.cluster import HELLO, is_cluster
from writebehind.shared.scripts import Call
from writebehind.shared.settings import CacheSettings

Command = tuple[str | int | bytes, ...]
_INCOMPLETE = object()
_pack: Callable[[Command], bytes] = cast("Any", hiredis.pack_command)  # declared for tuples of one


class AsyncCacheLine:
    """Scripts and the few commands that the client needs. Nothing is sent twice, because scripts count.

    Each method raises RedisError or OSError. After a call that was not answered within `timeout_s` the connection is
    cut; the next call makes another one. `lost` counts how often there was none, or one ended.
    """

    def __init__(self, settings: CacheSettings) -> None:
        self.lost = 0
        self._timeout_s = settings.timeout_s
        self._pool = ConnectionPool.from_url(  # of which only one connection is ever made
            settings.url.get_secret_value(),
            socket_timeout=settings.connect_timeout_s,
            socket_connect_timeout=settings.connect_timeout_s,
            retry=Retry(NoBackoff(), 0),
            client_name="writebehind-producer",
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
        self._protocol: _Protocol | None = None
        self._connecting: asyncio.Task[_Protocol] | None = None

    async def run(self, call: Call) -> Any:
        """A script's reply."""
        rest = (len(call.keys), *call.keys, *call.args)
        protocol = self._live() or await self._connected()
        (reply,) = protocol.send([("EVALSHA", call.script.sha, *rest)])
        try:
            return await reply
        except NoScriptError:
            return (await self._ask([("EVAL", call.script.text, *rest)]))[0]

    async def hashes(self, keys: Sequence[str]) -> list[dict[str, str]]:
        """Hashes as they are; a key that is not there gives an empty one."""
        return [_mapping(reply) for reply in await self._ask([("HGETALL", key) for key in keys])]

    async def unlink(self, keys: Sequence[str]) -> None:
        await self._ask([("UNLINK", *keys)])

    async def is_cluster(self) -> bool:
        """Whether the server is a node of a cluster; one that does not know HELLO is none that we can tell."""
        try:
            (reply,) = await self._ask([(HELLO,)])
        except ResponseError:
            return False
        return is_cluster(reply)

    async def policy(self) -> str | None:
        """The `maxmemory-policy`."""
        (reply,) = await self._ask([("CONFIG", "GET", "maxmemory-policy")])
        return _mapping(reply).get("maxmemory-policy")

    async def close(self) -> None:
        if self._connecting is not None:
            await asyncio.wait([self._connecting])
        if self._protocol is not None:
            await self._protocol.close()

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        protocol = self._live() or await self._connected()
        return await asyncio.gather(*protocol.send(commands))

    def _live(self) -> _Protocol | None:
        return None if self._protocol is None or self._protocol.ended else self._protocol

    async def _connected(self) -> _Protocol:
        """All who need a connection wait for the same one; none of them takes it away by being cancelled."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._no_longer_connecting)
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> _Protocol:
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except (RedisError, OSError):
            self.lost += 1
            raise
        self._protocol = _Protocol(self, connection, self._timeout_s)
        return self._protocol

    def _no_longer_connecting(self, task: asyncio.Task[_Protocol]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # fetched: perhaps nobody waits any more


class _Protocol(asyncio.Protocol):
    """Pairs replies with those who wait for them, in order."""

    def __init__(self, line: AsyncCacheLine, connection: AbstractConnection, timeout_s: float) -> None:
        self.ended = False
        self._line = line
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()  # the future of a reply, and until when
        self._timer: asyncio.TimerHandle | None = None
        self._late = False
        self._replies = hiredis.Reader(replyError=_error, notEnoughData=_INCOMPLETE)
        # The writer is kept: it owns the transport, and tells when that is closed. The connection lets go of both.
        writer = connection._writer  # pyright: ignore[reportPrivateUsage]  # nothing public gives the socket
        if writer is None:
            raise CacheConnectionError("ended")
        connection._reader = connection._writer = None  # pyright: ignore[reportPrivateUsage]
        self._writer = writer
        self._transport: asyncio.WriteTransport = writer.transport
        self._before = self._transport.get_protocol()
        self._transport.set_protocol(self)

    def send(self, commands: Sequence[Command]) -> list[asyncio.Future[Any]]:
        """Send at once; a future per command, which gets its reply, or raises the error that it is."""
        until = self._loop.time() + self._timeout_s
        futures = [self._loop.create_future() for _ in commands]
        self._waiting.extend([(future, until) for future in futures])
        self._transport.write(b"".join(map(_pack, commands)))
        if self._timer is None:
            self._timer = self._loop.call_at(until, self._look_at_the_time)
        return futures

    def data_received(self, data: bytes) -> None:
        self._replies.feed(data)
        try:
            while (reply := self._replies.gets()) is not _INCOMPLETE:
                future, _ = self._waiting.popleft()
                if future.done():
                    continue  # its caller was cancelled
                if isinstance(reply, Exception):
                    _fail(future, reply)
                else:
                    future.set_result(reply)
        except (hiredis.ProtocolError, IndexError):  # not what a cache says
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self._line.lost += 1
        if self._timer is not None:
            self._timer.cancel()
        self._before.connection_lost(exc)
        for future, _ in self._waiting:
            if not future.done():
                _fail(future, CacheTimeoutError("no answer in time") if self._late else CacheConnectionError("ended"))
        self._waiting.clear()

    async def close(self) -> None:
        self._transport.abort()
        with contextlib.suppress(OSError):  # what ended it before
            await self._writer.wait_closed()

    def _look_at_the_time(self) -> None:
        """One timer for all calls: they end in the order in which they began."""
        self._timer = None
        if not self._waiting:
            return
        _, until = self._waiting[0]
        if until <= self._loop.time():
            self._late = self.ended = True
            self._transport.abort()
        else:
            self._timer = self._loop.call_at(until, self._look_at_the_time)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    future.set_exception(error)
    future.exception()  # fetched: perhaps nobody waits any more


def _error(text: str) -> Exception:
    return NoScriptError(text) if text.startswith("NOSCRIPT") else ResponseError(text)


def _mapping(reply: Any) -> dict[str, str]:
    """A map, as RESP3 gives it, or the list that RESP2 gives in its place."""
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {name.decode(): value.decode() for name, value in pairs}

"""The cache's client, as far as producer and flusher use redis-py's, over the cache in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

import msgspec
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from writebehind.shared import scripts

from . import cache_settles, cache_writes
from .cache import Cache
from .world import Process, World

T = TypeVar("T")

PATIENCE_US = 250_000  # an answer that takes longer is a time-out, whatever became of the call

_pack = msgspec.msgpack.Encoder().encode
_SCRIPTS: dict[str, tuple[str, Any]] = {
    scripts.WRITE.sha: ("write", cache_writes),
    scripts.LEASE.sha: ("lease", cache_writes),
    scripts.FILL.sha: ("fill", cache_writes),
    scripts.UNDO.sha: ("undo", cache_settles),
    scripts.SETTLE.sha: ("settle", cache_settles),
    scripts.HEAL.sha: ("heal", cache_settles),
    scripts.DOUBT.sha: ("doubt", cache_settles),
}
_BY_TEXT = {script.text: script.sha for script in (scripts.WRITE, scripts.LEASE, scripts.FILL, scripts.UNDO)} | {
    script.text: script.sha for script in (scripts.SETTLE, scripts.HEAL, scripts.DOUBT)
}


def run_script(cache: Cache, sha: str, keys: Sequence[str], args: Sequence[Any]) -> bytes:
    """What the server does with EVALSHA."""
    name, module = _SCRIPTS[sha]
    for key in keys:
        cache.expire(key)
    return _pack(getattr(module, name)(cache, keys, args))


def key_of(entry: str) -> int:
    """The row's key in an entry's name, `PREFIX:{entity:key}`."""
    return int(entry.rpartition(":")[2][:-1])


class RedisPort:
    """One client of one process."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process
        self._sent: deque[tuple[Any, ...]] = deque()

    def evalsha(self, sha: str, count: int, *rest: Any) -> bytes:
        name, _ = _SCRIPTS[sha]
        keys, args = rest[:count], rest[count:]
        if name == "doubt":
            self._world.history.doubted |= {key_of(key): self._world.history.event() for key in keys}

        def missing(_flavour: int) -> bytes:
            raise NoScriptError("NOSCRIPT")

        return self._call(name, keys, lambda: run_script(self._cache, sha, keys, args), special=missing)

    @property
    def connection_pool(self) -> RedisPort:
        """Its only connection is this client."""
        return self

    def get_connection(self) -> RedisPort:
        return self

    def release(self, _connection: RedisPort) -> None:
        """It is nobody's."""

    def send_command(self, _name: str, *command: Any) -> None:
        """A script that is carried out when its answer is read."""
        self._sent.append(command)

    def read_response(self) -> bytes:
        return self.evalsha(*self._sent.popleft())

    def disconnect(self) -> None:
        self._sent.clear()

    def eval(self, text: str, count: int, *rest: Any) -> bytes:
        keys, args = rest[:count], rest[count:]
        return run_script(self._cache, _BY_TEXT[text], keys, args)

    def time(self) -> tuple[int, int]:
        return divmod(self._world.now_us, 1_000_000)

    def unlink(self, *keys: str) -> int:
        point = "drop" if self._process.side == "client" else "forget"
        return self._call(point, keys, lambda: sum(self._unlink(key) for key in keys))

    def pipeline(self, *, transaction: bool) -> _Pipeline:
        return _Pipeline(self)

    def hgetall_many(self, keys: Sequence[str]) -> list[dict[bytes, bytes]]:
        return self._call("read", keys, lambda: [self._hgetall(key) for key in keys])

    def close(self) -> None:
        """Nothing is open."""

    @property
    def _cache(self) -> Cache:
        self._world.cache.now = self._world.now_us
        return self._world.cache

    def _unlink(self, key: str) -> int:
        there = key in self._cache.entries
        self._cache.drop(key)
        return int(there)

    def _hgetall(self, key: str) -> dict[bytes, bytes]:
        self._cache.expire(key)
        return {name.encode(): value.encode() for name, value in self._cache.entry(key).items()}

    def _call(
        self, point: str, keys: Sequence[str], effect: Callable[[], T], special: Callable[[int], T] | None = None
    ) -> T:
        asked_at = self._world.now_us
        try:
            answer = self._world.call(point, effect, _error, special=special, process=self._process)
        except NoScriptError:
            raise
        except BaseException:
            if self._process.side == "client":
                self._disturb(keys)
            raise
        if self._process.side == "client" and self._world.now_us - asked_at > PATIENCE_US:
            self._disturb(keys)
            raise RedisTimeoutError("slow")
        return answer

    def _disturb(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._world.history.disturbed.setdefault(key_of(key), self._world.history.event())


class _Pipeline:
    """Only HGETALL is ever pipelined."""

    def __init__(self, port: RedisPort) -> None:
        self._port = port
        self._keys: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._keys.clear()

    def hgetall(self, key: str) -> None:
        self._keys.append(key)

    def execute(self) -> list[dict[bytes, bytes]]:
        return self._port.hgetall_many(self._keys)


def _error(flavour: int) -> RedisError:
    kinds = (RedisTimeoutError, RedisConnectionError, ReadOnlyError)
    return kinds[flavour % len(kinds)]("planted")

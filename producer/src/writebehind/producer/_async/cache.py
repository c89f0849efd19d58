"""The cache, as the client sees it: scripts and reads behind a circuit breaker, and entries that are in doubt."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError

from writebehind.shared.cluster import REFUSED
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.scripts import Call
from writebehind.shared.settings import CacheSettings

from ..backends.aio_line import AsyncCacheLine
from ..breaker import Breaker

log = logging.getLogger("writebehind.producer")

SUSPECTS_MAX = 100_000  # entries in doubt that are remembered; beyond that the audit finds them


class CacheDown(Exception):
    """The cache did not answer, or was not asked because the breaker is open.

    `in_doubt`: the call may have been carried out.
    """

    def __init__(self, in_doubt: bool) -> None:
        self.in_doubt = in_doubt
        super().__init__("the cache is not available")


class AsyncCache:
    """Scripts and reads, with a breaker in front of them."""

    def __init__(self, settings: CacheSettings) -> None:
        self._line = AsyncCacheLine(settings)
        self._breaker = Breaker(settings.breaker_failures, settings.breaker_open_s)
        self._suspects: dict[str, None] = {}

    def is_suspect(self, key: str) -> bool:
        """Whether the entry may hold a write that was enqueued a second time under another version: do not serve it."""
        return key in self._suspects

    @property
    def left_alone(self) -> bool:
        """Whether the breaker keeps calls away from it."""
        return self._breaker.is_open

    async def run(self, call: Call) -> Any:
        """Run a script. Raises CacheDown; then the entries are in doubt, unless the breaker kept the call back."""
        self._ask_breaker()
        try:
            await self._forget_suspects()
            reply = await self._line.run(call)
        except (RedisError, OSError) as error:
            self._failed(error)
            for key in call.keys[: SUSPECTS_MAX - len(self._suspects)]:
                self._suspects[key] = None
            raise CacheDown(in_doubt=True) from error
        except BaseException:
            self._breaker.withdrawn()  # cancelled: never leave the breaker waiting for its probe
            raise
        self._breaker.succeeded()
        return reply

    async def read(self, keys: Sequence[str]) -> list[dict[str, str]]:
        """Entries as they are. Raises CacheDown."""
        self._ask_breaker()
        try:
            await self._forget_suspects()
            hashes = await self._line.hashes(keys)
        except (RedisError, OSError) as error:
            self._failed(error)
            raise CacheDown(in_doubt=False) from error
        except BaseException:
            self._breaker.withdrawn()
            raise
        self._breaker.succeeded()
        return hashes

    async def check_server(self) -> None:
        """Refuse a cluster, and a cache that may evict entries whose writes are still pending.

        Raises ConfigurationError.
        """
        try:
            cluster = await self._line.is_cluster()
            policy = None if cluster else await self._line.policy()
        except (RedisError, OSError):
            return  # down, or CONFIG is not allowed here: `writebehind check` tells
        if cluster:
            raise ConfigurationError(REFUSED)
        if policy is not None and policy.startswith("allkeys"):
            raise ConfigurationError(
                f"the cache's maxmemory-policy is {policy}, which may evict entries with pending writes; "
                "set it to noeviction or to one of volatile-*: CONFIG SET maxmemory-policy volatile-lru"
            )

    async def close(self) -> None:
        await self._line.close()

    def _ask_breaker(self) -> None:
        if not self._breaker.allows(time.monotonic()):
            raise CacheDown(in_doubt=False)

    def _failed(self, error: Exception) -> None:
        self._breaker.failed(time.monotonic())
        log.warning("the cache did not answer (%s)", type(error).__name__)

    async def _forget_suspects(self) -> None:
        while self._suspects:
            keys = list(self._suspects)[:1000]
            await self._line.unlink(keys)
            for key in keys:
                self._suspects.pop(key, None)

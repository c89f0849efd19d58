"""The synchronous client's connections to the cache: a thread has one for as long as a call takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from writebehind.shared.cluster import HELLO, is_cluster
from writebehind.shared.scripts import Call
from writebehind.shared.settings import CacheSettings

POOL_WAIT_S = 10.0  # longest wait for a connection that others use


class CacheLine:
    """Scripts and the few commands that the client needs. Nothing is sent twice, because scripts count.

    Each method raises RedisError or OSError. `lost` counts how often there was no connection, or one ended.
    """

    def __init__(self, settings: CacheSettings) -> None:
        self.lost = 0
        self._lost_at = 0.0
        self._connected_at: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
        # A pool that waits: running out of connections is our doing, and must not look like a cache that is down.
        pool = BlockingConnectionPool.from_url(
            settings.url.get_secret_value(),
            timeout=POOL_WAIT_S,
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=settings.connect_timeout_s,
            max_connections=settings.connections_max,
            retry=Retry(NoBackoff(), 0),
            client_name="writebehind-producer",
            redis_connect_func=self._connected,
            # While they are on, as by default, the pool uses a connection again that has an answer which nobody read.
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
        self._client = Redis.from_pool(pool)

    def run(self, call: Call) -> Any:
        """A script's reply."""
        try:
            return self._client.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
        except NoScriptError:
            return self._client.eval(call.script.text, len(call.keys), *call.keys, *call.args)
        except ResponseError:
            raise
        except (RedisError, OSError):
            self._no_connection()
            raise

    def hashes(self, keys: Sequence[str]) -> list[dict[str, str]]:
        """Hashes as they are; a key that is not there gives an empty one."""
        with self._client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hgetall(key)
            replies = pipeline.execute()
        return [{name.decode(): value.decode() for name, value in reply.items()} for reply in replies]

    def unlink(self, keys: Sequence[str]) -> None:
        self._client.unlink(*keys)

    def is_cluster(self) -> bool:
        """Whether the server is a node of a cluster; one that does not know HELLO is none that we can tell."""
        try:
            return is_cluster(self._client.execute_command(HELLO))  # type: ignore[no-untyped-call]
        except ResponseError:
            return False

    def policy(self) -> str | None:
        """The `maxmemory-policy`."""
        return self._client.config_get("maxmemory-policy").get("maxmemory-policy")

    def close(self) -> None:
        self._client.close()

    def _connected(self, connection: Any) -> None:
        """One that was lost while nobody used it counts too, unless it went with others of which that is known."""
        connection.on_connect()
        if self._connected_at.get(connection, -1.0) >= self._lost_at:
            self._no_connection()
        self._connected_at[connection] = time.monotonic()

    def _no_connection(self) -> None:
        self.lost, self._lost_at = self.lost + 1, time.monotonic()

"""The client of the cache for all but the producer, and how it runs scripts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from writebehind.shared import cluster
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.scripts import Call
from writebehind.shared.settings import CacheSettings

KEYS_PER_CALL = 1_000  # bounds how long one script keeps the cache from answering others


def connect(settings: CacheSettings, name: str) -> redis.Redis:
    """A client that never sends a command twice: settling counts. Raises ConfigurationError."""
    try:
        return redis.Redis.from_url(
            settings.url.get_secret_value(),
            # Nobody waits for a settlement: patience is cheaper than a lost one.
            socket_timeout=max(5.0, settings.timeout_s),
            socket_connect_timeout=settings.connect_timeout_s,
            retry=Retry(NoBackoff(), 0),
            client_name=name,
            # While they are on, as by default, the pool uses a connection again that has an answer which nobody read.
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
    except ValueError:
        raise ConfigurationError(
            "WRITEBEHIND_CACHE__URL is not the URL of a cache, such as redis://user:password@host:port/0"
        ) from None


def is_cluster(client: redis.Redis) -> bool:
    """Whether the cache is a node of a cluster. Raises RedisError or OSError when it does not answer."""
    try:
        return cluster.is_cluster(client.execute_command(cluster.HELLO))  # type: ignore[no-untyped-call]
    except ResponseError:
        return False  # it does not know HELLO: older than 6.2, which `check` tells, or a proxy


def evaluate(client: redis.Redis, call: Call) -> Any:
    """Run a script, and give its reply as it came. Raises RedisError or OSError."""
    try:
        return client.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
    except NoScriptError:
        return client.eval(call.script.text, len(call.keys), *call.keys, *call.args)


def evaluate_each(client: redis.Redis, calls: Iterable[Call]) -> Iterator[Any]:
    """Run scripts, each sent while the one before runs, so that the cache need not wait for us. Gives their replies.

    For calls whose order does not matter: one that has to bring its script's text runs after the next.
    Raises RedisError or OSError; what was sent by then may be carried out or not.
    """
    pool = client.connection_pool
    connection: Any = pool.get_connection()  # redis-py leaves its methods without types
    sent: deque[Call] = deque()

    def reply() -> Any:
        call = sent.popleft()
        try:
            return connection.read_response()
        except NoScriptError:
            return evaluate(client, call)

    try:
        for call in calls:
            connection.send_command("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)
            sent.append(call)
            if len(sent) > 1:
                yield reply()
        while sent:
            yield reply()
    except BaseException:
        connection.disconnect()  # there may be answers that nobody has read
        raise
    finally:
        pool.release(connection)

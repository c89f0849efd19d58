"""Checks of Redis or Valkey: version, eviction, persistence, clock, and each command that a role needs."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from writebehind.shared import cluster, naming
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.settings import Settings

from ..cache import connect, is_cluster
from ..grants import cache as grants
from ..grants.roles import Role
from ..preflight import eviction_problem
from .finding import Finding, error, hint, skewed, warning

SERVER = "cache"
OLDEST = (6, 2)

# How each command is tried on an entry of nobody; in this order, so that what was made is gone at the end.
_TRIES: Sequence[tuple[str, Callable[[str], Sequence[Any]]]] = (
    ("time", lambda _: ("TIME",)),
    ("info", lambda _: ("INFO", "server")),
    ("dbsize", lambda _: ("DBSIZE",)),
    ("scan", lambda _: ("SCAN", 0, "MATCH", "writebehind-check-*", "COUNT", 1)),
    ("eval", lambda _: ("EVAL", "return 1", 0)),
    ("evalsha", lambda _: ("EVALSHA", "0" * 40, 0)),
    ("hset", lambda key: ("HSET", key, "a", "1")),
    ("pexpire", lambda key: ("PEXPIRE", key, 10_000)),
    ("hsetnx", lambda key: ("HSETNX", key, "b", "1")),
    ("hget", lambda key: ("HGET", key, "a")),
    ("hmget", lambda key: ("HMGET", key, "a")),
    ("hgetall", lambda key: ("HGETALL", key)),
    ("exists", lambda key: ("EXISTS", key)),
    ("pttl", lambda key: ("PTTL", key)),
    ("hdel", lambda key: ("HDEL", key, "b")),
    ("persist", lambda key: ("PERSIST", f"{key}-")),
    ("unlink", lambda key: ("UNLINK", f"{key}-")),
    ("del", lambda key: ("DEL", key)),
)


def look(settings: Settings, role: Role) -> tuple[list[Finding], dict[str, Any]]:
    """Findings, and what the server says of itself. Raises ConfigurationError when it cannot be asked."""
    client = connect(settings.cache, "writebehind-check")
    clustered = False
    try:
        clustered = is_cluster(client)
        if not clustered:  # which answers with redirections
            client.exists(_key(settings))
    except NoPermissionError:
        pass  # it answers; what is allowed is seen below
    except (RedisError, OSError) as problem:
        client.close()
        raise ConfigurationError(f"the cache cannot be asked ({type(problem).__name__})") from None
    try:
        facts = {"tls": _encrypted(settings), "cluster": clustered, **_facts(client)}
        found = [*of_server(facts), *_allowed(client, settings, role)]
        if facts["clock_skew_s"] is not None:
            found += skewed(SERVER, facts["clock_skew_s"])
        return found, facts
    except (RedisError, OSError) as problem:
        raise ConfigurationError(f"the cache stopped to answer ({type(problem).__name__})") from None
    finally:
        client.close()


def _key(settings: Settings) -> str:
    return naming.cache_key(settings.cache.prefix, "writebehind-check", secrets.token_hex(8))


def _encrypted(settings: Settings) -> bool:
    return urlsplit(settings.cache.url.get_secret_value()).scheme == "rediss"


def _facts(client: redis.Redis) -> dict[str, Any]:
    info: dict[str, Any] = {}
    skew: float | None = None
    with suppress(NoPermissionError):
        info = dict(client.info())
    with suppress(NoPermissionError):
        began = time.time()
        seconds, micros = client.time()
        skew = round(seconds + micros / 1e6 - (began + time.time()) / 2, 3)
    names = ("redis_version", "valkey_version", "maxmemory_policy", "maxmemory", "aof_enabled", "role")
    return {**{name: info.get(name) for name in names}, "clock_skew_s": skew}


def of_server(facts: dict[str, Any]) -> Iterator[Finding]:
    """What is wrong with a cache that says so of itself. Pure."""
    if facts["cluster"]:
        yield error(SERVER, cluster.WHAT, cluster.WHY, cluster.FIX)
    if facts["redis_version"] is None:
        what, why = "INFO is not allowed", "version, eviction and persistence could not be looked at"
        yield hint(SERVER, what, why, "allow it while you check: +info")
        return
    version = str(facts["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST:
        yield error(SERVER, f"Redis {version}", "the scripts are written for 6.2", "Redis 6.2, or any Valkey")
    if problem := eviction_problem(str(facts["maxmemory_policy"])):
        yield error(SERVER, problem[0], "an acknowledged write would not be read back until it is flushed", problem[1])
    if not facts["maxmemory"]:
        why = "it grows until the machine has no memory left, and is then killed"
        yield warning(SERVER, "maxmemory is 0", why, "CONFIG SET maxmemory 1gb, or what the machine can give")
    elif facts["maxmemory_policy"] == "noeviction":
        why = "when it is full nothing can be cached, and writes bypass it; entries with pending writes never expire"
        yield hint(SERVER, "maxmemory-policy is noeviction", why, "CONFIG SET maxmemory-policy volatile-lru")
    if not facts["aof_enabled"]:
        why = "after a restart reads show the rows, which lag until what is in Kafka is flushed"
        yield hint(SERVER, "its data does not survive a restart", why, "CONFIG SET appendonly yes")
    if facts["role"] == "slave":
        yield error(SERVER, "it is a replica", "a replica is read-only", "give the primary's address")


def _allowed(client: redis.Redis, settings: Settings, role: Role) -> Iterator[Finding]:
    needed, key = set(grants.commands(role)), _key(settings)
    refused = [name for name, words in _TRIES if name in needed and not _may(client, words(key))]
    if refused:
        user = unquote(urlsplit(settings.cache.url.get_secret_value()).username or "default")
        fix = grants.statement(grants.arguments(role, user, prefix=settings.cache.prefix))
        what = f"{user} may not {', '.join(refused)} entries of {settings.cache.prefix}"
        yield error(SERVER, what, f"the {role} needs it", fix)


def _may(client: Any, words: Sequence[Any]) -> bool:
    try:
        client.execute_command(*words)
    except NoPermissionError:
        return False
    except ResponseError:
        return True  # it was carried out, and had something to say: there is no such script
    return True

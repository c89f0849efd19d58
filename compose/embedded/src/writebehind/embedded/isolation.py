"""A test's own corner of shared servers: schemas, topics, keys and a group that no other test uses."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from writebehind.embedded.stack import CACHE_SETTING, DATABASE_SETTING, KAFKA_SETTING

_KAFKA_TIMEOUT_S: Final = 30
_SCAN_KEYS: Final = 1000


@dataclass(frozen=True)
class ExistingServers:
    """Servers that somebody else runs, named by the settings; they can be used but not stopped or paused."""

    bootstrap_servers: str
    database_url: str
    cache_url: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ExistingServers | None:
        """The servers the settings name, or None unless all three are named."""
        values = [environment.get(name) for name in (KAFKA_SETTING, DATABASE_SETTING, CACHE_SETTING)]
        bootstrap_servers, database_url, cache_url = values
        if not (bootstrap_servers and database_url and cache_url):
            return None
        return cls(bootstrap_servers, database_url, cache_url)

    def env(self) -> dict[str, str]:
        """The settings that point writebehind at these servers."""
        return {
            KAFKA_SETTING: self.bootstrap_servers,
            DATABASE_SETTING: self.database_url,
            CACHE_SETTING: self.cache_url,
        }


@dataclass(frozen=True)
class Isolation:
    """Where one test may work; all of it is removed after the test.

    `database_url` has `schema` (empty at first) as its search path. `bookkeeping_schema`, `topic_prefix`,
    `cache_prefix` and `group` are names nobody else uses: the schema, topics and keys are the test's to create.
    `env` holds the same as WRITEBEHIND_* settings, for a process or a settings object of the test.
    """

    bootstrap_servers: str
    database_url: str
    cache_url: str
    topic_prefix: str
    schema: str
    bookkeeping_schema: str
    cache_prefix: str
    group: str
    env: dict[str, str] = field(repr=False)


@contextmanager
def isolated(servers: Mapping[str, str], *, label: str = "test") -> Iterator[Isolation]:
    """A fresh corner of the servers that the settings in `servers` (an `env()`) name, removed at the end.

    `label` is part of every name in it, so that someone who meets one can tell whose it is.
    """
    corner = _named(servers, label, secrets.token_hex(4))
    _create_schema(servers[DATABASE_SETTING], corner.schema)
    try:
        yield corner
    finally:
        # Each on its own: a test may have left one server in a state in which it cannot be tidied.
        try:
            _drop_schemas(servers[DATABASE_SETTING], (corner.schema, corner.bookkeeping_schema))
        finally:
            try:
                _delete_keys(corner.cache_url, corner.cache_prefix)
            finally:
                _delete_topics(corner.bootstrap_servers, corner.topic_prefix)


def _named(servers: Mapping[str, str], label: str, token: str) -> Isolation:
    schema, bookkeeping = f"wb_{label}_{token}", f"wb_{label}_{token}_bookkeeping"
    topic_prefix, cache_prefix, group = f"{label}.{token}.", f"{label}-{token}", f"{label}-{token}"
    url = servers[DATABASE_SETTING]
    database_url = f"{url}{'&' if '?' in url else '?'}options={quote(f'-csearch_path={schema}', safe='')}"
    return Isolation(
        bootstrap_servers=servers[KAFKA_SETTING],
        database_url=database_url,
        cache_url=servers[CACHE_SETTING],
        topic_prefix=topic_prefix,
        schema=schema,
        bookkeeping_schema=bookkeeping,
        cache_prefix=cache_prefix,
        group=group,
        env={
            **servers,
            DATABASE_SETTING: database_url,
            "WRITEBEHIND_KAFKA__TOPIC_PREFIX": topic_prefix,
            "WRITEBEHIND_DATABASE__SCHEMA": bookkeeping,
            "WRITEBEHIND_CACHE__PREFIX": cache_prefix,
            "WRITEBEHIND_FLUSHER__GROUP": group,
        },
    )


# The client libraries are imported where they are used: pytest loads this module in every run, needed or not.


def _create_schema(url: str, schema: str) -> None:
    import psycopg
    from psycopg import sql

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))


def _drop_schemas(url: str, schemas: tuple[str, ...]) -> None:
    import psycopg
    from psycopg import sql

    with psycopg.connect(url, autocommit=True) as connection:
        # A connection the test forgot would hold its locks and make the drop wait for ever.
        connection.execute(
            "SELECT pg_terminate_backend(l.pid, 5000) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY(%s) AND l.pid <> pg_backend_pid()",
            [list(schemas)],
        )
        for schema in schemas:
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))


def _delete_keys(url: str, prefix: str) -> None:
    import redis

    with redis.Redis.from_url(url) as client:
        keys = list(client.scan_iter(match=f"{prefix}*", count=_SCAN_KEYS))
        for first in range(0, len(keys), _SCAN_KEYS):
            client.unlink(*keys[first : first + _SCAN_KEYS])


def _delete_topics(bootstrap_servers: str, prefix: str) -> None:
    from confluent_kafka.admin import AdminClient

    client = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 3})  # it tells of its own end, at 6
    names = [name for name in client.list_topics(timeout=_KAFKA_TIMEOUT_S).topics if name.startswith(prefix)]
    if names:
        # A broker that was just stopped and continued answers only when its controller has taken it back.
        for deleted in client.delete_topics(names, request_timeout=2 * _KAFKA_TIMEOUT_S).values():
            deleted.result(3 * _KAFKA_TIMEOUT_S)

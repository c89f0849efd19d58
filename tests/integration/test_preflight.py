"""What a flusher looks at before it starts: tables, slots, and a cache that keeps entries with pending writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import psycopg
import pytest
from psycopg import sql

from writebehind.embedded import Isolation
from writebehind.embedded.supervisor import Supervisor
from writebehind.embedded.valkey import Valkey
from writebehind.flusher.migrate import migrate
from writebehind.flusher.preflight import preflight
from writebehind.producer import Client
from writebehind.shared import naming
from writebehind.shared.entity import CacheAside, Entity, Key, Last, Sum, WriteBehind
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings, load_settings


class Page(Entity, table="pages", strategy=WriteBehind()):
    id: Annotated[int, Key]
    views: Annotated[int, Sum]
    title: Annotated[str, Last] = ""


class Grown(Entity, table="pages", name="page", strategy=WriteBehind()):
    """A field more than was migrated."""

    id: Annotated[int, Key]
    views: Annotated[int, Sum]
    title: Annotated[str, Last] = ""
    summary: str | None = None


class Visitor(Entity, table="visitors", strategy=WriteBehind()):
    id: Annotated[int, Key]
    seen: Annotated[int, Sum]


class PageRead(Entity, table="pages", name="page", strategy=CacheAside()):
    """The same, and not written behind any more."""

    id: Annotated[int, Key]
    title: Annotated[str, Last] = ""


PAGES = Registry([Page])
TABLE = (
    "CREATE TABLE pages (id bigint PRIMARY KEY, views bigint DEFAULT 7, title text, summary text, versions bigint[])"
)


@pytest.fixture
def settings(writebehind_isolated: Isolation, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in writebehind_isolated.env.items():
        monkeypatch.setenv(name, value)
    with psycopg.connect(writebehind_isolated.database_url, autocommit=True) as connection:
        connection.execute(TABLE.encode())
    return load_settings(cache={"url": writebehind_isolated.cache_url})


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Starts a cache of this test's own with an eviction policy and gives its URL."""
    supervisor = Supervisor()
    servers: list[Valkey] = []

    def start(policy: str) -> str:
        server = Valkey(supervisor, tmp_path, options={"maxmemory-policy": policy})
        servers.append(server)
        server.start()
        server.wait_ready()
        return server.url

    try:
        yield start
    finally:
        supervisor.close()
        for server in servers:
            server.release()


def with_cache(settings: Settings, url: str) -> Settings:
    return settings.model_copy(update={"cache": type(settings.cache).model_validate({"url": url})})


def refusal(settings: Settings, registry: Registry) -> str:
    with pytest.raises(ConfigurationError) as raised:
        preflight(settings, registry)
    return str(raised.value)


def test_an_entity_that_is_ready_comes_with_its_table_and_its_slots(
    settings: Settings, writebehind_isolated: Isolation
) -> None:
    migrate(settings, PAGES)
    prepared = preflight(settings, PAGES)
    assert list(prepared) == ["page"]
    page = prepared["page"]
    assert page.declaration.cls is Page
    assert page.slots == {"title": 1}
    assert page.table.schema == writebehind_isolated.schema
    assert page.table.columns["views"].type_name == "bigint"
    assert page.table.columns["views"].default_expr == "7"


def test_nothing_is_ready_before_migrate(settings: Settings) -> None:
    assert "run `writebehind migrate`" in refusal(settings, PAGES)


def test_a_field_without_a_slot_needs_another_migrate(settings: Settings) -> None:
    migrate(settings, PAGES)
    message = refusal(settings, Registry([Grown]))
    assert "Grown: fields without a slot" in message
    assert "writebehind migrate" in message
    migrate(settings, Registry([Grown]))
    assert preflight(settings, Registry([Grown]))["page"].slots == {"title": 1, "summary": 2}


def test_an_entity_that_was_written_behind_is_flushed_to_the_end_first(settings: Settings) -> None:
    migrate(settings, PAGES)
    with Client.open(settings) as client:
        client.update(Page, 1, views=1)
        client.update(Page, 2, views=1)
    read = Registry([PageRead])
    message = refusal(settings, read)
    assert "PageRead is declared CacheAside" in message
    assert "still holds 2 records" in message
    with psycopg.connect(settings.database.url.get_secret_value(), autocommit=True) as connection:
        flushed = sql.SQL("INSERT INTO {} SELECT %s, n, '', 2, 1, '', now(), now() FROM generate_series(0, 99) AS n")
        topic = naming.topic(settings.kafka.topic_prefix, "page")
        connection.execute(flushed.format(sql.Identifier(settings.database.schema_, "progress")), (topic,))
    assert preflight(settings, read) == {}
    unknown = type(settings.kafka).model_validate({"bootstrap_servers": "127.0.0.1:1"})
    assert preflight(settings.model_copy(update={"kafka": unknown}), read) == {}, "a broker that is down is waited for"


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random"])
def test_a_cache_that_may_evict_pending_writes_is_refused_with_all_other_problems(
    settings: Settings, valkey: Callable[[str], str], policy: str
) -> None:
    both = Registry([Page, Visitor])
    migrate(settings, both)
    message = refusal(with_cache(settings, valkey(policy)), both)
    assert policy in message
    assert "CONFIG SET maxmemory-policy" in message
    assert "Visitor: there is no table visitors" in message


@pytest.mark.parametrize("policy", ["noeviction", "volatile-ttl"])
def test_a_cache_that_keeps_pending_writes_is_accepted(
    settings: Settings, valkey: Callable[[str], str], policy: str
) -> None:
    migrate(settings, PAGES)
    assert preflight(with_cache(settings, valkey(policy)), PAGES)


def test_a_cache_that_is_down_does_not_stop_a_flusher(settings: Settings) -> None:
    migrate(settings, PAGES)
    assert preflight(with_cache(settings, "redis://127.0.0.1:1/0"), PAGES)


def test_a_cache_url_that_is_none_is_refused_without_showing_it(settings: Settings) -> None:
    migrate(settings, PAGES)
    message = refusal(with_cache(settings, "redis//:s3cret@127.0.0.1"), PAGES)
    assert "WRITEBEHIND_CACHE__URL" in message
    assert "s3cret" not in message


def test_a_librdkafka_option_that_is_wrong_is_refused_with_all_other_problems(settings: Settings) -> None:
    both = Registry([Page, Visitor])
    migrate(settings, both)
    wrong = {"bootstrap_servers": "127.0.0.1:1", "options": {"debug": "s3cret"}}
    kafka = type(settings.kafka).model_validate(wrong)
    message = refusal(settings.model_copy(update={"kafka": kafka}), both)
    assert "WRITEBEHIND_KAFKA__OPTIONS" in message
    assert "s3cret" not in message
    assert "Visitor: there is no table visitors" in message


@pytest.mark.parametrize("url", ["postgresql//u:s3cret@127.0.0.1/x", "postgresql://u:s3cret@127.0.0.1:1/x"])
def test_a_database_that_cannot_be_reached_is_refused_without_its_password(settings: Settings, url: str) -> None:
    database = type(settings.database).model_validate({"url": url})
    message = refusal(settings.model_copy(update={"database": database}), PAGES)
    assert "database" in message
    assert "s3cret" not in message


def test_bookkeeping_of_an_older_release_is_named(settings: Settings) -> None:
    migrate(settings, PAGES)
    with psycopg.connect(settings.database.url.get_secret_value(), autocommit=True) as connection:
        schema = sql.Identifier(settings.database.schema_)
        connection.execute(sql.SQL("DELETE FROM {}.migration WHERE name = '005_settled.sql'").format(schema))
    with pytest.raises(ConfigurationError, match=r"lacks 005_settled\.sql.*writebehind migrate"):
        preflight(settings, PAGES)

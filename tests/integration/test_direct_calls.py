"""Cache-aside and write-through on real servers: the calls, asynchronous and synchronous."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.integration.direct_world import Aside, Cold, Page, Through, at_rest, direct_world
from tests.integration.producer_world import Player, World
from writebehind.embedded import Isolation
from writebehind.producer import (
    AsyncClient,
    CacheAside,
    Client,
    ConfigurationError,
    Entity,
    InvalidWrite,
    Key,
    NotApplied,
    Refused,
    RowMissing,
)
from writebehind.shared import bookkeeping
from writebehind.shared.declaration import declaration_of

BOTH = pytest.mark.parametrize("cls", [Aside, Through])
WHEN = dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)


@pytest.fixture
def here(writebehind_isolated: Isolation) -> Iterator[World]:
    with direct_world(writebehind_isolated) as made:
        yield made


@BOTH
async def test_a_row_is_created_changed_read_and_deleted(here: World, cls: type[Aside]) -> None:
    async with AsyncClient.open(here.settings) as client:
        assert await client.get(cls, 1) is None
        await client.create(
            cls, 1, name="Ada", balance=Decimal("1.50"), best=5, first=WHEN, tags=["a", 'b"'], extra={"x": 1}
        )
        await client.update(cls, 1, balance=Decimal("2.25"), best=4, first=WHEN + dt.timedelta(days=1), name=None)
        await client.add(cls, 1, balance=Decimal("-1.00"))
        found = await client.get(cls, 1)
        assert found is not None
        assert (found.name, found.balance, found.best, found.first) == (None, Decimal("2.75"), 5, WHEN)
        assert (found.tags, found.extra) == (["a", 'b"'], {"x": 1})
        assert await client.get(cls, 1) == found  # from the cache
        assert bookkeeping.is_complete(here.entry(cls, "1"))
        await client.delete(cls, 1)
        assert await client.get(cls, 1) is None
        await client.delete(cls, 1)
    assert here.execute("SELECT count(*) FROM asides") == [(0,)]


@BOTH
async def test_no_plan_is_kept_for_many_rows(here: World, cls: type[Aside]) -> None:
    """One made while the table is empty goes over all of it, and would be kept while it grows."""
    async with AsyncClient.open(here.settings) as client:
        for key in (1, 2):
            await client.create(cls, key, name="Ada")
        for number in range(20):
            await client.update_many(cls, [(key, {"name": f"Ada {number}"}) for key in (1, 2)])
            assert len(await client.get_many(cls, [1, 2, 1_000 + number, 2_000 + number])) == 2
            await client.invalidate(cls, 1, 2)
        async with client.transaction() as connection:
            cursor = await connection.execute("SELECT statement FROM pg_prepared_statements")
            kept = [text for (text,) in await cursor.fetchall()]
    assert kept, "this is the connection that was used"
    assert [text for text in kept if "unnest" in text] == []


@BOTH
async def test_a_row_that_somebody_keeps_locked_is_not_waited_for_longer_than_set(
    here: World, cls: type[Aside]
) -> None:
    database = here.settings.database.model_copy(update={"lock_timeout_s": 0.2})
    async with AsyncClient.open(here.settings.model_copy(update={"database": database})) as client:
        await client.create(cls, 1, name="Ada")
        with psycopg.connect(here.corner.database_url) as blocker:
            blocker.execute(f"SELECT FROM {declaration_of(cls).table} FOR UPDATE".encode())
            with pytest.raises(NotApplied, match="55P03"):
                await client.update(cls, 1, name="Countess", timeout_s=60)
        await client.update(cls, 1, name="Lovelace")
        assert (await client.get(cls, 1) or cls(id=0)).name == "Lovelace"


async def test_a_cache_aside_write_leaves_no_entry_and_a_read_fills_it(here: World) -> None:
    async with AsyncClient.open(here.settings) as client:
        receipt = await client.create(Aside, 1, name="Ada")
        assert here.entry(Aside, "1") == {}
        assert (receipt.version, receipt.partition, receipt.topic, await receipt.flushed()) == (0, -1, "", True)
        await client.get(Aside, 1)
        await at_rest(client)
        assert here.entry(Aside, "1")["name"] == "Ada"
        here.execute("UPDATE asides SET name = 'by hand'")
        assert (await client.get(Aside, 1) or Aside(id=0)).name == "Ada"
        await client.invalidate(Aside, 1)
        assert (await client.get(Aside, 1) or Aside(id=0)).name == "by hand"


async def test_a_write_through_write_leaves_the_row_in_the_cache_under_its_version(here: World) -> None:
    async with AsyncClient.open(here.settings) as client:
        first = await client.create(Through, 1, name="Ada")
        second = await client.update(Through, 1, name="Bob")
        assert second.version > first.version
        entry = here.entry(Through, "1")
        assert (entry["name"], entry["balance"], bookkeeping.of(entry).version) == ("Bob", "0.00", second.version)
        assert here.execute("SELECT version FROM throughs_direct") == [(second.version,)]


async def test_the_row_that_a_trigger_changed_is_what_the_cache_gets(here: World) -> None:
    here.execute(
        "CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.name = upper(NEW.name); RETURN NEW; END'"
    )
    here.execute("CREATE TRIGGER loud BEFORE INSERT OR UPDATE ON throughs_direct FOR EACH ROW EXECUTE FUNCTION loud()")
    async with AsyncClient.open(here.settings) as client:
        await client.create(Through, 1, name="ada")
        assert here.entry(Through, "1")["name"] == "ADA"


@BOTH
async def test_rows_of_your_own_connection_may_be_of_any_kind(here: World, cls: type[Aside]) -> None:
    url = here.settings.database.url.get_secret_value()
    own: psycopg.AsyncConnection[Any] = await psycopg.AsyncConnection.connect(url, autocommit=True)
    own.row_factory = dict_row
    async with AsyncClient.open(here.settings) as client, own:
        async with client.transaction(own) as connection:
            await client.create(cls, 1, name="Ada", connection=connection)
            await client.add(cls, 1, balance=Decimal("1.50"), connection=connection)
            await client.update_many(cls, [(1, {"best": 5}), (1, {"name": "Bob"})], connection=connection)
        found = await client.get(cls, 1)
        assert found is not None
        assert (found.name, found.balance, found.best) == ("Bob", Decimal("1.50"), 5)


@BOTH
async def test_many_updates_are_one_transaction(here: World, cls: type[Aside]) -> None:
    async with AsyncClient.open(here.settings) as client:
        for key in range(4):
            await client.create(cls, key, name="old")
        patches: list[tuple[int, dict[str, Any]]] = [(key, {"name": f"n{key}", "balance": 1}) for key in range(4)]
        patches += [(1, {"name": "again", "balance": 2}), (2, {"best": 7}), (1, {"balance": 3})]
        receipts = await client.update_many(cls, patches)
        assert len(receipts) == 7
        found = await client.get_many(cls, [0, 1, 2, 3, 9])
        assert {key: (row.name, int(row.balance), row.best) for key, row in found.items()} == {
            0: ("n0", 1, None),
            1: ("again", 6, None),
            2: ("n2", 1, 7),
            3: ("n3", 1, None),
        }
        with pytest.raises(RowMissing):
            await client.update_many(cls, [(0, {"name": "no"}), (99, {"name": "no"})])
        with pytest.raises(Refused):
            await client.update_many(cls, [(0, {"name": "no"}), (1, {"balance": -1000})])
        assert await client.get_many(cls, [0, 1, 2, 3]) == found
    assert here.execute("SELECT count(*) FROM asides WHERE name = 'no'") == [(0,)]


@BOTH
async def test_what_the_database_refuses_leaves_nothing_behind(here: World, cls: type[Aside]) -> None:
    async with AsyncClient.open(here.settings) as client:
        await client.create(cls, 1, name="Ada")
        with pytest.raises(Refused, match="nothing was written") as raised:
            await client.add(cls, 1, balance=-1000)
        assert (raised.value.sqlstate, raised.value.constraint is not None) == ("23514", True)
        with pytest.raises(Refused) as raised:
            await client.create(cls, 1, name="Bob")
        assert raised.value.sqlstate == "23505"
        with pytest.raises(RowMissing):
            await client.update(cls, 2, name="Eve")
        assert here.entry(cls, "2") == {}
        assert (await client.get(cls, 1) or cls(id=0)).name == "Ada"


async def test_bad_input_is_refused_and_nothing_is_written(here: World) -> None:
    async with AsyncClient.open(here.settings) as client:
        await client.create(Aside, 1, name="Ada")
        bad: list[dict[str, Any]] = [
            {"nme": "x"},
            {"name": 1},
            {"name": "\x00"},
            {"id": 2},
            {},
            {"balance": Decimal("0.001")},
            {"best": 2**63},
            {"name": "x" * 2_000_000},
            {"extra": {"x": "y" * 2_000_000}},
        ]
        for patch in bad:
            with pytest.raises(InvalidWrite):
                await client.update(Aside, 1, **patch)
        with pytest.raises(InvalidWrite):
            await client.add(Aside, 1, name="x")
        with pytest.raises(InvalidWrite):
            await client.update(Aside, "1", name="x")
        with pytest.raises(InvalidWrite):
            await client.update(Aside, (1, 2), name="x")
        with pytest.raises(Refused) as raised:
            await client.create(Page, ("a", "b"), title="longer than the column is wide")
        assert raised.value.sqlstate == "22001"
    assert here.execute("SELECT name FROM asides") == [("Ada",)]
    assert here.execute("SELECT count(*) FROM pages") == [(0,)]
    assert here.entry(Aside, "1") == {}


async def test_keys_with_separators_in_them_are_kept_apart(here: World) -> None:
    keys = [("a|b", "c"), ("a", "b|c"), ("{a}", "%7C"), ("", "")]
    async with AsyncClient.open(here.settings) as client:
        for number, key in enumerate(keys):
            await client.create(Page, key, title=str(number))
        for _ in range(2):
            found = await client.get_many(Page, keys)
            assert [found[key].title for key in keys] == ["0", "1", "2", "3"]


async def test_a_table_that_is_not_as_declared_is_refused_at_the_first_write(here: World) -> None:
    here.execute("ALTER TABLE throughs_direct DROP COLUMN version")
    here.execute("ALTER TABLE asides DROP COLUMN best")
    async with AsyncClient.open(here.settings) as client:
        with pytest.raises(ConfigurationError, match="version"):
            await client.create(Through, 1, name="x")
        with pytest.raises(ConfigurationError, match="best"):
            await client.create(Aside, 1, name="x")
        with pytest.raises(ConfigurationError):
            await client.get(Aside, 1)
    assert here.execute("SELECT count(*) FROM throughs_direct") == [(0,)]


async def test_a_herd_of_readers_of_one_cold_key_causes_one_select(here: World) -> None:
    here.execute("INSERT INTO cold_rows VALUES (1, 'Ada')")
    here.execute(
        "GRANT SELECT ON colds TO writebehind_producer; GRANT USAGE ON SEQUENCE selects TO writebehind_producer"
    )
    async with AsyncClient.open(here.settings) as one, AsyncClient.open(here.settings) as two:
        found = await asyncio.gather(*[(one if n % 2 else two).get(Cold, 1) for n in range(200)])
    assert {row.name for row in found if row is not None} == {"Ada"}
    assert None not in found
    assert here.execute("SELECT last_value, is_called FROM selects") == [(1, True)]


async def test_a_write_behind_entity_has_no_part_in_your_transaction(here: World) -> None:
    async with AsyncClient.open(here.settings) as client, client.transaction() as connection:
        with pytest.raises(InvalidWrite):
            await client.update(Player, 1, name="x", connection=connection)
        with pytest.raises(InvalidWrite):
            await client.invalidate(Player, 1)


def test_the_synchronous_client_does_the_same(here: World) -> None:
    with Client.open(here.settings) as client:
        client.create(Through, 1, name="Ada")
        client.create(Aside, 1, name="Ada")
        threads = [threading.Thread(target=client.add, args=(Through, 1), kwargs={"balance": 1}) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = client.get(Through, 1)
        assert found is not None
        assert found.balance == 20
        assert here.execute("SELECT balance FROM throughs_direct") == [(20,)]
        with client.transaction() as connection:
            client.update(Aside, 1, name="Bob", connection=connection)
            assert (client.get(Aside, 1) or Aside(id=0)).name == "Ada"
        assert (client.get(Aside, 1) or Aside(id=0)).name == "Bob"


def test_a_declaration_without_a_table_is_refused(here: World) -> None:
    class Nowhere(Entity, table="nowhere", strategy=CacheAside()):
        id: Annotated[int, Key]
        name: str

    with Client.open(here.settings) as client, pytest.raises(ConfigurationError, match="nowhere"):
        client.create(Nowhere, 1, name="x")

"""Entities of different strategies on one table: rows that any of them makes, and what the others then see."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.direct_gates import Gate, at
from tests.integration.flusher_process import ROOT, Flusher, wait_until
from tests.integration.guarded import OPERATOR, Guarded
from tests.integration.mixed_world import MODULE, NEGATIVE_S, Badges, Billing, Notes, Profile, Visits, mixed_world
from tests.integration.producer_world import World
from tests.zygote import run
from writebehind.embedded import Isolation
from writebehind.producer import AsyncClient, Client, Refused, RowMissing, Unknown
from writebehind.shared import bookkeeping

KEYS, ROUNDS = 12, 8


@pytest.fixture
def here(writebehind_isolated: Isolation) -> Iterator[World]:
    with mixed_world(writebehind_isolated) as made:
        yield made


@contextmanager
def flushing(here: World, folder: Path, entities: str = MODULE) -> Iterator[Flusher]:
    flusher = Flusher(here.env_of("flusher"), [entities], folder / "log")
    try:
        yield flusher
    finally:
        flusher.close()


async def made_or_changed(client: AsyncClient, cls: type[Profile | Billing], key: int, **fields: Any) -> bool:
    """Make the row, or change it when another entity was faster. Tells whether we made it."""
    try:
        await client.create(cls, key, **fields)
    except Refused as error:
        if error.sqlstate != "23505":
            raise
        await client.update(cls, key, **fields)
        return False
    return True


async def live(client: AsyncClient, other: AsyncClient, key: int) -> None:
    """All three make and write one row; what is acknowledged by write-through is seen by another client at once."""

    async def profile() -> None:
        await made_or_changed(client, Profile, key, name="n")
        for n in range(ROUNDS):
            await client.update(Profile, key, name=f"n{n}")
            assert await other.get(Visits, key) is not None  # however its entry said "no row" a moment ago

    async def billing() -> None:
        await made_or_changed(client, Billing, key, status="s")
        for n in range(ROUNDS):
            await client.update(Billing, key, status=f"s{n}")
            assert await other.get(Billing, key) == Billing(id=key, status=f"s{n}")

    async def visits() -> None:
        assert (await other.get(Visits, key) or Visits(id=key)).views == 0
        for n in range(ROUNDS):
            await client.add(Visits, key, views=1)
            await client.update(Visits, key, page=f"p{n}")

    await asyncio.gather(profile(), billing(), visits(), other.get(Profile, key), other.get(Billing, key))


async def test_rows_are_made_and_written_by_all_three_at_once(here: World, tmp_path: Path) -> None:
    last = ROUNDS - 1
    with flushing(here, tmp_path):
        async with AsyncClient.open(here.settings) as client, AsyncClient.open(here.settings) as other:
            await asyncio.gather(*[live(client, other, key) for key in range(KEYS)])
            receipt = await client.add(Visits, 0, views=1)
            assert await receipt.flushed(60)
            rows = "SELECT id, name, status, views, page FROM people ORDER BY id"
            wanted = [(key, f"n{last}", f"s{last}", ROUNDS + (key == 0), f"p{last}") for key in range(KEYS)]
            await asyncio.to_thread(wait_until, lambda: here.execute(rows) == wanted, "every write in its row")
            for key in range(KEYS):
                assert await other.get(Profile, key) == Profile(id=key, name=f"n{last}")
                assert await other.get(Billing, key) == Billing(id=key, status=f"s{last}")
                assert await other.get(Visits, key) == Visits(id=key, views=ROUNDS + (key == 0), page=f"p{last}")
    versions = here.execute("SELECT count(*) FROM people WHERE billing_version > 0 AND visit_versions IS NOT NULL")
    assert versions == [(KEYS,)]


@pytest.mark.parametrize("cls", [Profile, Billing])
async def test_no_row_of_a_late_entity_does_not_hide_the_row_that_another_makes(
    here: World, cls: type[Profile | Billing]
) -> None:
    async with AsyncClient.open(here.settings) as client:
        for key in (1, 2):
            assert await client.get(Visits, key) is None
            assert not bookkeeping.of(here.entry(Visits, str(key))).row_exists
        await client.create(cls, 1)
        assert await client.get(Visits, 1) == Visits(id=1)
        async with client.transaction() as connection:
            await client.create(cls, 2, connection=connection)
        assert await client.get(Visits, 2) == Visits(id=2)


async def test_a_reader_that_found_no_row_before_the_create_may_not_say_so_after_it(here: World) -> None:
    async with AsyncClient.open(here.settings) as client, AsyncClient.open(here.settings) as slow:
        gate = Gate()
        at(slow, "before the late fill", gate.pass_)
        reading = asyncio.create_task(slow.get(Visits, 1))
        await gate.reached.wait()
        await client.create(Profile, 1)
        gate.opened.set()
        assert await reading is None  # it began before
        assert await client.get(Visits, 1) == Visits(id=1)


async def test_a_row_that_one_deletes_is_gone_for_the_late_entity_too(here: World) -> None:
    async with AsyncClient.open(here.settings) as client:
        await client.create(Profile, 1)
        assert await client.get(Visits, 1) is not None
        await client.delete(Profile, 1)
        assert await client.get(Visits, 1) is None


async def test_a_create_that_was_rolled_back_leaves_the_late_entry_alone(here: World) -> None:
    async with AsyncClient.open(here.settings) as client:
        await client.create(Profile, 1)
        await client.get(Visits, 1)
        with pytest.raises(Refused):
            await client.create(Billing, 1)
        assert bookkeeping.is_complete(here.entry(Visits, "1"))


async def test_pending_writes_outlive_the_create_and_the_delete_of_their_row(here: World, tmp_path: Path) -> None:
    async with AsyncClient.open(here.settings) as client:
        assert await client.get(Visits, 1) is None
        await client.add(Visits, 1, views=3)
        await client.create(Profile, 1, name="Ada")
        entry = bookkeeping.of(here.entry(Visits, "1"))
        assert (entry.pending, entry.tainted, entry.complete) == (1, True, False)
        assert await client.get(Visits, 1) == Visits(id=1, views=3)
        await client.add(Visits, 1, views=4)
        await client.delete(Profile, 1)
        assert await client.get(Visits, 1) == Visits(id=1, views=7)
        with flushing(here, tmp_path):
            # The late write makes the row once more, which is what on_missing="insert" says.
            wait_until(lambda: here.execute("SELECT name, views FROM people") == [("", 7)], "the flush")
            wait_until(lambda: here.entry(Visits, "1") == {}, "the tainted entry to go")
        assert await client.get(Visits, 1) == Visits(id=1, views=7)


def test_a_row_that_a_flusher_makes_is_hidden_no_longer_than_the_negative_ttl(here: World, tmp_path: Path) -> None:
    with Client.open(here.settings) as client, flushing(here, tmp_path):
        assert client.get(Billing, 1) is None
        assert client.add(Visits, 1, views=1).flushed(60)
        wait_until(lambda: client.get(Billing, 1) == Billing(id=1), f"{NEGATIVE_S} s to be over")


def replay(here: World) -> list[dict[str, Any]]:
    line = [sys.executable, "-m", "writebehind.flusher", "letters", "replay", "--apply", "--json", "--entities", MODULE]
    done = run(line, cwd=ROOT, env=here.env_of(OPERATOR), timeout=60)
    return [json.loads(text) for text in done.stdout.splitlines()]


def test_a_late_write_without_a_row_becomes_a_letter_that_can_be_replayed(here: World, tmp_path: Path) -> None:
    with Client.open(here.settings) as client, flushing(here, tmp_path):
        client.create(Profile, 1)
        good = [client.add(Badges, 1, stars=1), client.update(Badges, 1, title="first")]
        bad = [client.add(Badges, 2, stars=5), client.update(Badges, 2, title="nobody"), client.add(Badges, 3, stars=1)]
        assert all(receipt.flushed(60) for receipt in [*good, *bad])
        assert here.execute("SELECT id, stars, title FROM people") == [(1, 1, "first")]
        book = here.settings.database.schema_
        assert here.execute(f'SELECT entity, state, count(*) FROM "{book}".letter GROUP BY 1, 2') == [
            ("badges", "refused", 3)
        ]
        wait_until(lambda: here.entry(Badges, "2") == {}, "the refused fields to leave the cache")
        assert client.get(Badges, 2) is None
        client.create(Profile, 2)
        done = replay(here)
        assert [one.get("outcome") for one in done].count("applied") == 2, done
        assert any("on_missing makes none" in str(one) for one in done)
        assert here.execute("SELECT id, stars, title FROM people ORDER BY id") == [(1, 1, "first"), (2, 5, "nobody")]


def test_a_skipped_write_does_not_stay_in_the_cache(here: World, tmp_path: Path) -> None:
    with Client.open(here.settings) as client, flushing(here, tmp_path):
        assert client.update(Notes, 1, note="to nobody").flushed(60)
        wait_until(lambda: here.entry(Notes, "1") == {}, "the entry to go")
        assert client.get(Notes, 1) is None


def test_no_row_is_kept_for_a_shorter_time_than_a_row(here: World) -> None:
    with Client.open(here.settings) as client:
        client.create(Profile, 1)
        client.get_many(Notes, [1, 2])
    assert 5_000 < here.left_ms(Notes, "1") <= 3_600_000
    assert 0 < here.left_ms(Notes, "2") <= 5_000


def test_a_direct_write_without_a_row_is_a_typed_error(here: World) -> None:
    with Client.open(here.settings) as client:
        writes: list[tuple[type[Profile | Billing], dict[str, Any]]] = [
            (Profile, {"name": "x"}),
            (Billing, {"status": "x"}),
        ]
        for cls, patch in writes:
            with pytest.raises(RowMissing):
                client.update(cls, 1, **patch)
            assert here.entry(cls, "1") == {}


def test_a_late_write_without_a_row_is_a_typed_error_when_it_goes_straight_to_the_database(
    breakable_stack: Guarded,
) -> None:
    quick = {"timeout_s": 1.0, "broker_down_after_s": 0.3, "close_timeout_s": 0.5}
    with (
        breakable_stack.corner() as corner,
        mixed_world(corner, producer=quick) as here,
        Client.open(here.settings) as client,
    ):
        client.create(Profile, 1)
        client.add(Badges, 1, stars=1)
        breakable_stack.kafka.pause()
        try:
            with pytest.raises(Unknown):
                client.add(Badges, 1, stars=1)
            assert client.add(Badges, 1, stars=1).partition < 0
            with pytest.raises(RowMissing):
                client.add(Badges, 2, stars=1)
            assert here.entry(Badges, "2") == {}
        finally:
            breakable_stack.kafka.resume()


def test_a_cache_that_is_down_learns_of_the_new_row_from_the_flusher(breakable_stack: Guarded, tmp_path: Path) -> None:
    with (
        breakable_stack.corner() as corner,
        mixed_world(corner, cache={"budget_s": 0.3}) as here,
        Client.open(here.settings) as client,
    ):
        assert client.get(Visits, 1) is client.get(Visits, 2) is None
        client.add(Visits, 2, views=3)
        breakable_stack.valkey.pause()
        try:
            client.create(Profile, 1)
            client.create(Profile, 2)
        finally:
            breakable_stack.valkey.resume()
        assert not bookkeeping.of(here.entry(Visits, "1")).row_exists
        with flushing(here, tmp_path, f"{MODULE}:Profile"):  # which leaves the pending write where it is
            wait_until(lambda: client.get(Visits, 1) == Visits(id=1), "the flusher to tell the cache")
            wait_until(lambda: bookkeeping.of(here.entry(Visits, "2")).tainted, "the flusher to tell of the other row")
        assert bookkeeping.of(here.entry(Visits, "2")).pending == 1
        assert client.get(Visits, 2) == Visits(id=2, views=3)

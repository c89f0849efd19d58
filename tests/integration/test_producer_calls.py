"""The producer's calls on real servers, asynchronous and synchronous."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType

from tests.integration.flusher_process import wait_until
from tests.integration.producer_world import ENTITIES, Player, Through, Visit, World, world
from tests.integration.rights import take_acls
from tests.zygote import Popen
from writebehind.embedded import Isolation
from writebehind.producer import (
    AsyncClient,
    Client,
    ClientClosed,
    ConfigurationError,
    InvalidWrite,
    NotApplied,
    PartlyFailed,
)
from writebehind.shared import bookkeeping, naming

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(writebehind_isolated: Isolation) -> Iterator[World]:
    with world(writebehind_isolated) as made:
        yield made


async def test_a_write_is_in_the_cache_and_on_the_topic_when_the_call_returns(here: World) -> None:
    async with AsyncClient.open(here.settings) as client:
        receipt = await client.update(Player, 42, name="Ada", best=7)
    [(key, row)] = here.records(Player)
    assert (key, row[1], row[4:]) == ("42", receipt.version, (42, "Ada", None, None, None, 7, None))
    assert (receipt.topic, receipt.offset, receipt.key) == (here.topic(Player), 0, "42")
    entry = here.entry(Player, "42")
    kept = bookkeeping.of(entry)
    assert (entry["name"], entry["best"], kept.pending, kept.version) == ("Ada", "7", 1, receipt.version)


async def test_a_partial_entry_is_overlaid_on_the_row(here: World) -> None:
    here.execute("INSERT INTO players (id, name, score, best, versions) VALUES (1, 'row', 10, 50, '{1}')")
    async with AsyncClient.open(here.settings) as client:
        await client.update(Player, 1, name="new", best=7)
        found = await client.get(Player, 1)
        assert found is not None
        assert (found.name, found.score, found.best) == ("new", 10, 50)
        again = await client.get(Player, 1)  # filled: from the cache alone
        assert again == found
    kept = bookkeeping.of(here.entry(Player, "1"))
    assert (kept.complete, kept.row_exists) == (True, True)


async def test_an_entry_stays_in_the_small_encoding_while_it_is_filled_and_written(here: World) -> None:
    async with AsyncClient.open(here.settings) as client:
        await client.add(Player, 1, score=2)  # leased, filled, written
        await client.update(Player, 1, name="Ada", best=7, score=5)
    with redis.Redis.from_url(here.corner.cache_url, decode_responses=True) as cache:
        key = naming.cache_key(here.settings.cache.prefix, "player", "1")
        assert cache.object("ENCODING", key) == "listpack"


async def test_the_first_increment_loads_the_base_and_later_ones_do_not(here: World) -> None:
    here.execute("INSERT INTO players (id, score, balance, versions) VALUES (1, 9007199254740993, 0.10, '{1}')")
    async with AsyncClient.open(here.settings) as client:
        await client.add(Player, 1, score=2, balance=Decimal("0.05"))
        here.execute("UPDATE players SET score = 0")  # nobody looks again
        await client.add(Player, 1, score=-1)
        found = await client.get(Player, 1)
    assert found is not None
    assert (found.score, found.balance) == (9007199254740994, Decimal("0.15"))


async def test_a_row_that_does_not_exist_reads_as_none_and_starts_from_its_defaults(here: World) -> None:
    async with AsyncClient.open(here.settings) as client:
        assert await client.get(Player, 5) is None
        first = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        await client.update(Player, 5, score=3, first=first)
        assert await client.get(Player, 5) == Player(id=5, score=3, first=first)
        assert await client.get_many(Player, [4, 5]) == {5: Player(id=5, score=3, first=first)}


async def test_none_is_a_value_and_not_the_same_as_left_out(here: World) -> None:
    here.execute("INSERT INTO players (id, name, versions) VALUES (1, 'row', '{1}')")
    async with AsyncClient.open(here.settings) as client:
        await client.update(Player, 1, score=1)
        assert (await client.get(Player, 1)) == Player(id=1, name="row", score=1)
        await client.update(Player, 1, name=None)
        assert (await client.get(Player, 1)) == Player(id=1, name=None, score=1)
    masks = [row[3] for _, row in here.records(Player)]
    assert masks == [0b10, 0b1]


async def test_composite_keys_with_separators_stay_apart_and_deletes_leave_a_tombstone(here: World) -> None:
    async with AsyncClient.open(here.settings) as client:
        await client.update(Visit, ("a|b", "c"), title="one")
        await client.update(Visit, ("a", "b|c"), title="two")
        await client.update(Visit, {"site": "{a}", "page": "%7C"}, title="three")
        found = await client.get_many(Visit, [("a|b", "c"), ("a", "b|c"), ("{a}", "%7C")])
        assert [row.title for row in found.values()] == ["one", "two", "three"]
        await client.delete(Visit, ("a|b", "c"))
        assert await client.get(Visit, ("a|b", "c")) is None
        await client.add(Visit, ("a|b", "c"), views=2)
        assert await client.get(Visit, ("a|b", "c")) == Visit(site="a|b", page="c", views=2)


async def test_concurrent_calls_share_their_round_trips(here: World) -> None:
    async with AsyncClient.open(here.settings) as client:
        await client.update(Player, 0, name="warm")
        before = here.calls()
        receipts = await asyncio.gather(*[client.update(Player, key, name=f"n{key}") for key in range(256)])
        assert here.calls() - before <= 4
        assert len({(receipt.partition, receipt.offset) for receipt in receipts}) == 256
        names = await asyncio.gather(*[client.get(Player, key) for key in range(256)])
    assert [player and player.name for player in names] == [f"n{key}" for key in range(256)]


def test_threads_share_one_synchronous_client(here: World) -> None:
    with Client.open(here.settings) as client:
        failures: list[BaseException] = []

        def work(thread: int) -> None:
            try:
                for number in range(50):
                    client.update(Player, 1, score=1, best=thread * 100 + number)
            except BaseException as error:  # noqa: BLE001  # looked at below
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        found = client.get(Player, 1)
        assert found is not None
        assert (found.score, found.best) == (400, 749)
    assert len(here.records(Player)) == 400


def test_increments_wait_for_a_base_that_another_process_is_loading(writebehind_isolated: Isolation) -> None:
    with (
        world(writebehind_isolated, producer={"timeout_s": 60.0}) as here,
        Client.open(here.settings) as one,
        Client.open(here.settings) as other,
        ThreadPoolExecutor() as threads,
    ):
        with psycopg.connect(writebehind_isolated.database_url) as blocker:
            blocker.execute("LOCK TABLE players")
            before = here.calls()
            writes = [threads.submit(client.update, Player, 1, score=1) for client in (one, other)]
            wait_until(lambda: here.calls() - before >= 12, "the second to look again and again")
            assert not any(write.done() for write in writes)
        for write in writes:
            write.result(60)
        found = one.get(Player, 1)
        assert found is not None
        assert found.score == 2


async def test_update_many_gives_a_receipt_each_and_checks_all_before_it_writes(here: World) -> None:
    async with AsyncClient.open(here.settings) as client:
        receipts = await client.update_many(Player, [(key, {"name": str(key)}) for key in range(2500)])
        assert len({receipt.version for receipt in receipts if receipt.key == "1"}) == 1
        assert [receipt.key for receipt in receipts] == [str(key) for key in range(2500)]
        with pytest.raises(InvalidWrite, match=r"Player\.nme"):
            await client.update_many(Player, [(1, {"name": "x"}), (2, {"nme": "x"})])
        assert await client.update_many(Player, []) == []
        with pytest.raises(PartlyFailed) as raised:
            await client.update_many(Player, [(1, {"small": 32767}), (1, {"small": 1}), (2, {"small": 1})])
    assert set(raised.value.receipts) == {0, 2}
    assert isinstance(raised.value.failures[1], InvalidWrite)
    assert len(here.records(Player)) == 2502


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_flushed_waits_for_the_database(here: World, kind: str) -> None:
    command = [sys.executable, "-m", "writebehind.flusher", "flush", "--entities", "tests.integration.producer_world"]
    flusher = await asyncio.to_thread(_start, command, {**os.environ, **here.env_of("flusher")})
    try:
        if kind == "async":
            async with AsyncClient.open(here.settings) as client:
                receipt = await client.update(Player, 1, score=5)
                assert await receipt.flushed(timeout_s=60)
        else:
            with Client.open(here.settings) as sync_client:
                assert sync_client.update(Player, 1, score=5).flushed(timeout_s=60)
        assert here.execute("SELECT score FROM players") == [(5,)]
    finally:
        flusher.terminate()
        assert flusher.wait(30) == 0


def _start(command: list[str], env: dict[str, str]) -> Popen[bytes]:
    return Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL)


async def test_flushed_is_false_while_nobody_flushes(here: World) -> None:
    async with AsyncClient.open(here.settings) as client:
        receipt = await client.update(Player, 1, score=5, wait="enqueued")
        assert not await receipt.flushed(timeout_s=0.2)


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"nme": "x"}, r"Player\.nme: is not a declared field \(got str\)"),
        ({"name": 5}, r"Player\.name: must be a str for a column of type text \(got int\)"),
        ({"name": "a\0b"}, r"Player\.name: must not contain NUL"),
        ({"score": 2**63}, r"Player\.score: must be between"),
        ({"score": True}, r"Player\.score: must be an int .*\(got bool\)"),
        ({"balance": Decimal("0.001")}, r"Player\.balance: must have at most 2 decimal places"),
        ({"first": dt.datetime(2026, 1, 1)}, r"Player\.first: must carry a time zone"),  # noqa: DTZ001  # that is the point
        ({"score": None}, r"Player\.score: must not be None"),
        ({"id": 4}, r"Player\.id: is a key column"),
        ({}, r"Player: a write needs at least one field"),
        ({"name": "x" * 1_100_000}, r"Player: the record would have \d+ bytes, the topic allows 1048576"),
    ],
)
async def test_bad_input_is_refused_at_the_call_and_nothing_is_written(
    here: World, patch: dict[str, Any], message: str
) -> None:
    async with AsyncClient.open(here.settings) as client:
        with pytest.raises(InvalidWrite, match=message) as raised:
            await client.update(Player, 1, **patch)
        assert "xxxxx" not in str(raised.value)
    assert here.entry(Player, "1") == {}
    assert here.records(Player) == []


async def test_calls_that_the_declaration_does_not_allow_are_refused(here: World) -> None:
    async with AsyncClient.open(here.settings) as client:
        with pytest.raises(InvalidWrite, match=r"Player\.name: cannot be added to"):
            await client.add(Player, 1, name="x")
        with pytest.raises(InvalidWrite, match=r"deletes must be declared"):
            await client.delete(Player, 1)
        with pytest.raises(InvalidWrite, match=r"must be an int"):
            await client.get(Player, "one")
        with pytest.raises(InvalidWrite, match=r"the key has 2 columns: site, page"):
            await client.get(Visit, "one")
    assert here.records(Player) == []


async def test_a_sum_that_would_leave_its_range_is_refused_where_the_cache_knows_it(here: World) -> None:
    async with AsyncClient.open(here.settings) as client:
        await client.add(Player, 1, small=32000)
        with pytest.raises(InvalidWrite, match=r"Player\.small: would leave the range of int2"):
            await client.add(Player, 1, small=1000)
        found = await client.get(Player, 1)
    assert found is not None
    assert found.small == 32000
    assert len(here.records(Player)) == 1


async def test_a_topic_that_does_not_exist_is_named(writebehind_isolated: Isolation) -> None:
    with world(writebehind_isolated, [Player]) as here:
        here.give("producer", Player, Through)
        async with AsyncClient.open(here.settings) as client:
            with pytest.raises(ConfigurationError, match=r"there is no topic '.*through'.*writebehind migrate"):
                await client.update(Through, 1, name="x")
        assert here.entry(Through, "1") == {}


async def test_a_client_without_rights_says_so_and_takes_no_write(
    here: World, caplog: pytest.LogCaptureFixture
) -> None:
    take_acls(here.corner)
    async with AsyncClient.open(here.settings) as client:
        with pytest.raises(ConfigurationError, match=r"topic '.*player' may not be written: `writebehind grants"):
            await client.update(Player, 1, name="x")
        # librdkafka gives up where it may not even have an id: nowhere may this client write.
        given_up = "CLUSTER_AUTHORIZATION_FAILED: no write will be taken"
        await asyncio.to_thread(wait_until, lambda: given_up in caplog.text, given_up)
        here.give("producer", *ENTITIES)
        with pytest.raises(NotApplied, match="could not be handed over"):
            await client.update(Player, 1, name="x")
    assert here.records(Player) == []
    async with AsyncClient.open(here.settings) as client:
        await client.update(Player, 1, name="y")


def min_insync_replicas(admin: AdminClient, topic: str) -> str:
    [told] = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    return str(told.result()["min.insync.replicas"].value)


async def test_a_topic_whose_replicas_can_never_suffice_is_refused(here: World) -> None:
    admin = AdminClient({"bootstrap.servers": here.corner.bootstrap_servers})
    entry = ConfigEntry("min.insync.replicas", "2", incremental_operation=AlterConfigOpType.SET)
    for future in admin.incremental_alter_configs(
        [ConfigResource(ResourceType.TOPIC, here.topic(Player), incremental_configs=[entry])]
    ).values():
        future.result()
    wait_until(lambda: min_insync_replicas(admin, here.topic(Player)) == "2", "the broker to know its new setting")
    async with AsyncClient.open(here.settings) as client:
        with pytest.raises(ConfigurationError, match=r"min\.insync\.replicas=2 and has 1 replicas"):
            await client.update(Player, 1, name="x")
    assert here.entry(Player, "1") == {}


async def test_a_client_is_usable_only_while_it_is_open(here: World) -> None:
    client = AsyncClient.open(here.settings)
    with pytest.raises(ClientClosed, match="not started"):
        await client.get(Player, 1)
    await client.start()
    assert await client.get(Player, 1) is None
    assert (await client.close()).clean
    with pytest.raises(ClientClosed, match="closed"):
        await client.update(Player, 1, name="x")


def test_a_client_from_before_a_fork_is_refused(here: World) -> None:
    with Client.open(here.settings) as client:
        pid = client._pid
        client._pid = pid + 1  # what a forked child sees, without forking a process full of threads
        with pytest.raises(ClientClosed, match="before the process was forked"):
            client.get(Player, 1)
        client._pid = pid


def test_a_cache_that_may_evict_pending_entries_is_refused(here: World) -> None:
    import redis

    with redis.Redis.from_url(here.corner.cache_url) as cache:
        cache.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(ConfigurationError, match=r"allkeys-lru.*CONFIG SET maxmemory-policy"):
                Client.open(here.settings).start()
        finally:
            cache.config_set("maxmemory-policy", "noeviction")


def test_a_table_that_cannot_be_read_is_named(here: World) -> None:
    here.execute("ALTER TABLE players DROP COLUMN best")
    with (
        Client.open(here.settings) as client,
        pytest.raises(ConfigurationError, match=r"cannot read table players \(SQLSTATE 42703\)"),
    ):
        client.get(Player, 1)

"""The producer while a server is down, stalls, or loses everything. These tests have servers of their own to hurt."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from tests.faults.proxy import Proxy, port_of
from tests.integration.guarded import Guarded, guarded
from tests.integration.producer_world import ENTITIES, Player, Through, Visit, World, world
from tests.zygote import Popen
from writebehind.producer import AsyncClient, AsyncReceipt, Client, DatabaseDown, NotApplied, Refused, Shed, Unknown
from writebehind.producer.write import UNKNOWN_OFFSET
from writebehind.shared import bookkeeping

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60.0
QUICK: dict[str, Any] = {"timeout_s": 1.0, "broker_down_after_s": 0.3, "max_in_flight": 3, "close_timeout_s": 0.5}


@pytest.fixture(scope="module")
def stack() -> Iterator[Guarded]:
    with guarded(appendonly=True) as running:
        yield running


@contextmanager
def corner(stack: Guarded, **settings: Any) -> Iterator[World]:
    for server in stack.servers:
        assert server.running
    with stack.corner() as isolation, world(isolation, ENTITIES, **settings) as made:
        yield made


@contextmanager
def flusher(here: World) -> Iterator[None]:
    command = [sys.executable, "-m", "writebehind.flusher", "flush", "--entities", "tests.integration.producer_world"]
    process: Popen[bytes] = Popen(
        command, cwd=ROOT, env={**os.environ, **here.env_of("flusher")}, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(30) == 0


async def eventually(look: Any, expected: Any) -> None:
    """Wait until `look()` gives what is expected."""
    deadline = time.monotonic() + TIMEOUT_S
    while (found := await asyncio.to_thread(look)) != expected:
        assert time.monotonic() < deadline, f"waited for {expected}, got {found}"
        await asyncio.sleep(0.05)


async def test_a_cache_connection_that_was_reset_while_nobody_used_it_loses_no_call(
    stack: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    with corner(stack) as here, Proxy(port_of(stack.cache_url)) as proxy:
        url = SecretStr(here.corner.env_of("producer", cache=proxy.port)["WRITEBEHIND_CACHE__URL"])
        settings = here.settings.model_copy(update={"cache": here.settings.cache.model_copy(update={"url": url})})
        async with AsyncClient.open(settings) as client:
            await client.update(Player, 1, score=1)
            proxy.reset()
            line: Any = client._cache._line
            await eventually(lambda: line.lost, 1)
            await client.update(Player, 1, name="Ada")
            found = await client.get(Player, 1)  # nobody flushes: only the cache knows of it
            assert found is not None
            assert found.name == "Ada"
    assert "the cache did not answer" not in caplog.text


def test_an_answer_that_nobody_read_is_nobody_else_s(stack: Guarded) -> None:
    """Of the synchronous client, which takes connections from a pool."""
    with corner(stack) as here, Client.open(here.settings) as client:
        client.update(Player, 1, name="Ada")
        line: Any = client._cache._line
        connection = line._client.connection_pool.get_connection()
        connection.send_command("ECHO", "somebody else's")
        assert connection.can_read(TIMEOUT_S)
        line._client.connection_pool.release(connection)
        client.update(Player, 1, score=2)
        found = client.get(Player, 1)
        assert found is not None
        assert (found.name, found.score) == ("Ada", 2)


async def test_when_the_broker_stalls_a_write_is_unknown_and_then_applied_once(stack: Guarded) -> None:
    with corner(stack) as here:
        async with AsyncClient.open(here.settings) as client:
            await client.update(Player, 1, score=1)
            stack.kafka.pause()
            try:
                with pytest.raises(Unknown) as raised:
                    await client.update(Player, 1, score=10, timeout_s=1.0)
            finally:
                stack.kafka.resume()
            assert raised.value.version is not None
            found = await client.get(Player, 1)
            assert found is not None
            assert found.score == 11  # it may have been applied, so the cache goes on showing it
            receipt = await client.update(Player, 1, score=100, timeout_s=TIMEOUT_S)
            assert receipt.version > raised.value.version
        assert sum(row[6] for _, row in here.records(Player)) == 111


async def test_block_waits_for_room_and_then_says_that_nothing_was_changed(stack: Guarded) -> None:
    with corner(stack, producer=QUICK) as here:
        client = await AsyncClient.open(here.settings).start()
        await client.update(Player, 0, name="warm", timeout_s=TIMEOUT_S)
        stack.kafka.pause()
        try:
            for key in range(1, 4):
                await client.update(Player, key, name="fills the buffer", wait="enqueued")
            with pytest.raises(NotApplied, match="the buffer stayed full"):
                await client.update(Player, 9, name="x")
            assert here.entry(Player, "9") == {}
        finally:
            stack.kafka.resume()
        await client.update(Player, 9, name="y", timeout_s=TIMEOUT_S)
        assert (await client.close(TIMEOUT_S)).clean


async def test_shed_fails_at_once_and_through_writes_the_row_now(stack: Guarded) -> None:
    with corner(stack, producer=QUICK) as here:
        client = await AsyncClient.open(here.settings).start()
        await client.update(Visit, ("a", "b"), title="warm", timeout_s=TIMEOUT_S)
        await client.update(Through, 1, name="old", count=1, timeout_s=TIMEOUT_S)
        stack.kafka.pause()
        try:
            with pytest.raises(Unknown):
                await client.update(Visit, ("a", "b"), title="waits")
            with pytest.raises(Shed):
                await client.update(Visit, ("a", "c"), title="x")
            assert here.entry(Visit, "a|c") == {}
            receipt = await client.update(Through, 1, name="new", count=5)
            assert here.execute("SELECT name, count FROM throughs") == [("new", 5)]
            assert await receipt.flushed(0)
            found = await client.get(Through, 1)
            assert found is not None
            here.execute("ALTER TABLE throughs ADD CONSTRAINT few CHECK (count < 1000)")
            with pytest.raises(Refused, match="constraint few, SQLSTATE 23514"):
                await client.update(Through, 1, name="refused", count=5000)
            assert here.execute("SELECT name, count FROM throughs") == [("new", 5)]
        finally:
            stack.kafka.resume()
        with flusher(here):  # the older record must not overwrite the newer name, and its increment counts
            await client.update(Through, 1, count=10, timeout_s=TIMEOUT_S)
            await eventually(lambda: here.execute("SELECT name, count FROM throughs"), [("new", 16)])
            await eventually(lambda: bookkeeping.of(here.entry(Through, "1")).pending, 0)
            shown = await client.get(Through, 1)
            assert shown is not None
            assert (shown.name, shown.count) == ("new", 16)
        await client.close(TIMEOUT_S)


async def test_a_refused_record_is_taken_back_from_the_cache(stack: Guarded) -> None:
    told: list[tuple[str, int, Exception]] = []

    def tell(receipt: AsyncReceipt, failure: Exception) -> None:
        told.append((receipt.key, receipt.version, failure))
        raise RuntimeError("a callback's own failure harms nobody")

    with corner(stack) as here:
        async with AsyncClient.open(here.settings, on_delivery_failed=tell) as client:
            await client.update(Player, 1, name="stays", score=1)
            from confluent_kafka.admin import AdminClient
            from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
            from confluent_kafka.admin._resource import ResourceType

            limit = ConfigEntry("max.message.bytes", "300", incremental_operation=AlterConfigOpType.SET)
            resource = ConfigResource(ResourceType.TOPIC, here.topic(Player), incremental_configs=[limit])
            admin = AdminClient({"bootstrap.servers": here.corner.bootstrap_servers})
            for future in admin.incremental_alter_configs([resource]).values():
                future.result()
            await too_large(client, 2)  # the broker heeds the limit a moment after it was told
            with pytest.raises(NotApplied, match="MSG_SIZE_TOO_LARGE"):
                await client.update(Player, 1, name="x" * 1000, score=10)
            found = await client.get(Player, 1)
            assert found is not None
            assert (found.name, found.score) == ("stays", 1)
            assert told == []
            receipt = await client.update(Player, 1, name="y" * 1000, score=10, wait="enqueued")
            await eventually(lambda: len(told), 1)
            assert told[0][:2] == ("1", receipt.version)
            assert isinstance(told[0][2], NotApplied)
            assert await client.get(Player, 1) == found
        kept = bookkeeping.of(here.entry(Player, "1"))
        assert (kept.pending, kept.tainted) == (1, True)


async def too_large(client: AsyncClient, key: int) -> None:
    """Until the broker refuses a large record."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                await client.update(Player, key, name="x" * 1000)
            except NotApplied:
                return


async def test_while_the_cache_is_down_writes_go_on_and_few_of_them_wait(stack: Guarded) -> None:
    with corner(stack, cache={"timeout_s": 0.1, "connect_timeout_s": 0.1}) as here, flusher(here):
        async with AsyncClient.open(here.settings) as client:
            await client.update(Player, 1, score=1, name="before")
            stack.valkey.kill()
            try:
                receipts = [await client.update(Player, 1, score=1, name=f"n{number}") for number in range(40)]
                receipts.append(await client.update(Player, 2, name="x"))
                for receipt in receipts[-2:]:
                    assert await receipt.flushed(TIMEOUT_S)
                assert here.execute("SELECT score, name FROM players WHERE id = 1") == [(41, "n39")]
                found = await client.get(Player, 1)  # from the row
                assert found is not None
                assert found.score == 41
            finally:
                stack.valkey.start()
            last = await client.update(Player, 1, score=1)
            assert await last.flushed(TIMEOUT_S)
            await eventually(lambda: bookkeeping.of(here.entry(Player, "1")).pending, 0)
            healed = await client.get(Player, 1)
            assert healed is not None
            assert (healed.score, healed.name) == (42, "n39")


async def test_a_cache_that_loses_everything_costs_no_increment_and_is_right_again(stack: Guarded) -> None:
    with corner(stack) as here, flusher(here):
        async with AsyncClient.open(here.settings) as client:
            with redis.Redis.from_url(here.corner.cache_url) as cache:
                for round_ in range(20):
                    await asyncio.gather(*[client.update(Player, key, score=1, best=round_) for key in range(10)])
                    if round_ % 4 == 3:
                        cache.flushall()
                last = [await client.update(Player, key, score=1) for key in range(10)]
                for receipt in last:
                    assert await receipt.flushed(TIMEOUT_S)
            assert here.execute("SELECT DISTINCT score, best FROM players") == [(21, 19)]
            await eventually(lambda: {bookkeeping.of(here.entry(Player, str(key))).pending for key in range(10)}, {0})
            found = await client.get_many(Player, list(range(10)))
            assert {(player.score, player.best) for player in found.values()} == {(21, 19)}


async def test_cancelled_calls_leave_nobody_the_wrong_reply(stack: Guarded) -> None:
    with corner(stack) as here:
        async with AsyncClient.open(here.settings) as client:
            await client.update_many(Player, [(key, {"name": f"n{key}"}) for key in range(200)])

            async def call(key: int) -> None:
                if key % 3:
                    found = await client.get(Player, key)
                    assert found is not None
                    assert found.name == f"n{key}"
                else:
                    receipt = await client.update(Player, key, name=f"n{key}")
                    assert receipt.key == str(key)

            for storm in range(10):
                tasks = [asyncio.create_task(call(key)) for key in range(200)]
                for step, task in enumerate(tasks):
                    if step % 2 == storm % 2:
                        task.cancel()
                    if step % 16 == 0:
                        await asyncio.sleep(0)
                results = await asyncio.gather(*tasks, return_exceptions=True)
                assert [r for r in results if r is not None and not isinstance(r, asyncio.CancelledError)] == []
            found = await client.get_many(Player, list(range(200)))
            assert {key: player.name for key, player in found.items()} == {key: f"n{key}" for key in range(200)}


async def test_a_caller_who_is_cancelled_leaves_no_room_taken(stack: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the buffer would fill up with writes that nobody hands over."""
    with corner(stack, producer={"max_in_flight": 2, "broker_down_after_s": 60.0}) as here:
        async with AsyncClient.open(here.settings) as client:
            outbox = client._writer.outbox
            assert await client.get(Player, 1) is None  # a connection stands
            stack.postgres.pause()
            try:
                waits_for_a_base = asyncio.create_task(client.update(Player, 2, score=1))
                await eventually(lambda: bookkeeping.of(here.entry(Player, "2")).lease is not None, True)
                waits_for_a_base.cancel()
                await asyncio.wait([waits_for_a_base])
                assert outbox.in_flight == 0
            finally:
                stack.postgres.resume()
            waits = threading.Event()
            original = outbox._room.wait_for

            def wait_for(*arguments: Any) -> Any:
                waits.set()
                return original(*arguments)

            monkeypatch.setattr(outbox._room, "wait_for", wait_for)
            stack.kafka.pause()
            try:
                under_way = [asyncio.create_task(client.update(Player, key, name="x")) for key in (3, 4)]
                await eventually(lambda: outbox.in_flight, 2)
                waits_for_room = asyncio.create_task(client.update(Player, 5, name="x"))
                assert await asyncio.to_thread(waits.wait, TIMEOUT_S)
                waits_for_room.cancel()
                await asyncio.wait([waits_for_room])
            finally:
                stack.kafka.resume()
            await asyncio.gather(*under_way)
            # The thread that waited for room has found some, and given it back.
            await client.update_many(Player, [(6, {"name": "x"}), (7, {"name": "x"})])
            await eventually(lambda: outbox.in_flight, 0)
        assert {key for key, _ in here.records(Player)} == {"3", "4", "6", "7"}


async def test_a_database_that_stalls_blocks_no_write_for_ever(stack: Guarded) -> None:
    with corner(stack, producer={"timeout_s": 1.0}) as here:
        async with AsyncClient.open(here.settings) as client:
            assert await client.get(Player, 1) is None  # a connection stands
            stack.postgres.pause()
            try:
                await client.update(Player, 2, name="no base needed")
                await client.update(Player, 3, score=5)  # its base cannot be had: the cache is left alone
                assert not bookkeeping.of(here.entry(Player, "3")).present
                with pytest.raises(DatabaseDown):
                    await client.get(Player, 4)
            finally:
                stack.postgres.resume()
        assert [row[6] for key, row in here.records(Player) if key == "3"] == [5]


async def test_while_the_database_is_away_few_increments_wait_for_their_base(stack: Guarded) -> None:
    with corner(stack, producer={"timeout_s": 2.0}) as here:
        async with AsyncClient.open(here.settings) as client:
            assert await client.get(Player, 1) is None  # a connection stands
            took_s: list[float] = []
            stack.postgres.pause()
            try:
                for key in range(100, 140):
                    started = time.monotonic()
                    await client.update(Player, key, score=1)
                    took_s.append(time.monotonic() - started)
            finally:
                stack.postgres.resume()
            waited = sum(took > 0.9 for took in took_s)  # half of the time-out is for the base
            assert 1 <= waited <= 10
            with flusher(here):
                await eventually(lambda: here.execute("SELECT sum(score), count(*) FROM players"), [(40, 40)])


async def test_where_nobody_said_where_a_record_is_flushed_waits_for_the_log_s_end(stack: Guarded) -> None:
    with corner(stack) as here:
        async with AsyncClient.open(here.settings) as client:
            receipt = await client.update(Player, 1, score=5)
            assert receipt._write is not None
            receipt._write.offset = UNKNOWN_OFFSET  # as after a retry of what the broker had already
            assert not await receipt.flushed(0.2)
            with flusher(here):
                assert await receipt.flushed(TIMEOUT_S)
                assert here.execute("SELECT score FROM players") == [(5,)]


def test_close_tells_what_it_could_not_deliver(stack: Guarded) -> None:
    with corner(stack, producer={"close_timeout_s": 0.5}) as here:
        client = Client.open(here.settings).start()
        client.update(Player, 0, name="warm")
        stack.kafka.pause()
        try:
            client.update(Player, 1, name="x", wait="enqueued")
            report = client.close()
        finally:
            stack.kafka.resume()
        assert [(entity, key) for entity, key, _, _ in report.undelivered] == [("player", "1")]
        assert isinstance(report.undelivered[0][3], NotApplied | Unknown)
        assert not report.clean


async def test_patches_of_two_clients_survive_an_inverted_enqueue_order(stack: Guarded) -> None:
    with corner(stack) as here:
        async with AsyncClient.open(here.settings) as one, AsyncClient.open(here.settings) as other:
            await one.update(Player, 1, name="zero", best=1)
            held: list[Any] = []
            in_cache = asyncio.Event()
            send = one._writer.outbox.send

            def hold(*arguments: Any) -> None:
                held.append(arguments)
                in_cache.set()

            one._writer.outbox.send = hold  # type: ignore[method-assign, assignment]
            slow = asyncio.create_task(one.update(Player, 1, name="older"))
            await in_cache.wait()
            await other.update(Player, 1, best=9, score=3)  # newer, and first on the topic
            one._writer.outbox.send = send  # type: ignore[method-assign]
            send(*held[0])
            older = await slow
            with flusher(here):
                assert await older.flushed(TIMEOUT_S)
                assert here.execute("SELECT name, best, score FROM players") == [("older", 9, 3)]

"""Direct entities while a server is down, stalls, is full or loses everything, at each step of a write."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
import pytest
import redis

from tests.integration.direct_gates import STEPS, at
from tests.integration.direct_world import Aside, Strict, Through, at_rest, direct_world
from tests.integration.guarded import Guarded, guarded
from tests.integration.producer_world import World
from writebehind.flusher.invalidations import Invalidations
from writebehind.producer import AsyncClient, Client, DatabaseDown, NotApplied, Unknown, WritebehindError, doubt
from writebehind.shared import bookkeeping

TIMEOUT_S = 60.0
BOTH = pytest.mark.parametrize("cls", [Aside, Through])
CACHE_FAULTS = ("killed", "black-holed", "emptied", "full")


@pytest.fixture(scope="module")
def stack() -> Iterator[Guarded]:
    with guarded(appendonly=True) as running:  # a cache that comes back with what it had
        yield running


@contextmanager
def corner(stack: Guarded, **settings: Any) -> Iterator[World]:
    with stack.corner() as isolation, direct_world(isolation, **settings) as made:
        yield made


@contextmanager
def flusher(here: World) -> Iterator[None]:
    """The flusher's part that carries invalidations out; test_invalidations.py runs all of it."""
    running = Invalidations(here.settings_of("flusher"))
    running.start()
    try:
        yield
    finally:
        running.stop(30)
    assert running.failure is None


def break_cache(stack: Guarded, fault: str) -> None:
    match fault:
        case "killed":
            stack.valkey.kill()
        case "black-holed":
            stack.valkey.pause()
        case "emptied":
            with redis.Redis.from_url(stack.valkey.url) as client:
                client.flushall()
        case _:
            with redis.Redis.from_url(stack.valkey.url) as client:
                client.config_set("maxmemory", 1)


def mend_cache(stack: Guarded, fault: str) -> None:
    match fault:
        case "killed":
            stack.valkey.start()
            stack.valkey.wait_ready()
        case "black-holed":
            stack.valkey.resume()
        case "emptied":
            pass
        case _:
            with redis.Redis.from_url(stack.valkey.url) as client:
                client.config_set("maxmemory", 0)


@asynccontextmanager
async def patient(here: World) -> AsyncIterator[AsyncClient]:
    """A client of somebody else's, who has noticed nothing."""
    async with AsyncClient.open(here.settings) as client:
        yield client


async def name(client: AsyncClient, cls: type[Aside | Through]) -> str | None:
    found = await client.get(cls, 1)
    assert found is not None
    return found.name


async def eventually(look: Callable[[], Awaitable[Any]], expected: Any) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while (found := await look()) != expected:
        assert time.monotonic() < deadline, f"waited for {expected}, got {found}"
        await asyncio.sleep(0.05)


@BOTH
@pytest.mark.parametrize("fault", CACHE_FAULTS)
@pytest.mark.parametrize("step", STEPS[:3])
async def test_a_write_succeeds_without_the_cache_and_the_old_value_leaves_it(
    stack: Guarded, cls: type[Aside | Through], fault: str, step: str
) -> None:
    with corner(stack, cache={"budget_s": 0.5, "breaker_open_s": 0.2}) as here:
        async with AsyncClient.open(here.settings) as client, patient(here) as other:
            await client.create(cls, 1, name="old")
            await client.get(cls, 1)

            async def breaks() -> None:
                await asyncio.to_thread(break_cache, stack, fault)

            at(client, step, breaks)
            try:
                await client.update(cls, 1, name="new")
                assert here.execute(f"SELECT name FROM {cls.__place__.table}") == [("new",)]
                assert await name(client, cls) == "new" or fault == "black-holed"
            finally:
                await asyncio.to_thread(mend_cache, stack, fault)
            with flusher(here):
                await eventually(lambda: name(other, cls), "new")
            # Not only bypassed: what is left in the cache is right, or nothing.
            assert here.entry(cls, "1").get("name", "new") == "new"


@BOTH
@pytest.mark.parametrize("idle", [False, True], ids=["reading", "idle"])
async def test_a_reader_who_finds_the_cache_back_before_a_writer_does_is_not_told_old_values(
    stack: Guarded, cls: type[Aside | Through], idle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer's breaker is open for a while yet: it goes around the cache, and no flusher tells the cache of it."""
    monkeypatch.setattr(doubt, "SLACK_S", 8.0)
    with corner(stack, cache={"budget_s": 0.5, "breaker_open_s": 5.0}) as here:
        quick = here.settings.cache.model_copy(update={"breaker_open_s": 0.1})
        soon_back = here.settings.model_copy(update={"cache": quick})
        async with AsyncClient.open(here.settings) as writer, AsyncClient.open(soon_back) as reader:
            await writer.create(cls, 1, name="old")
            assert await name(reader, cls) == "old"
            await asyncio.to_thread(break_cache, stack, "killed")
            try:
                await writer.update(cls, 1, best=1)  # its breaker is open from here on
                if not idle:
                    assert await name(reader, cls) == "old"
            finally:
                await asyncio.to_thread(mend_cache, stack, "killed")
            async with AsyncClient.open(here.settings) as late:  # knows of no outage, and fills
                await name(late, cls)
            await writer.update(cls, 1, name="new")
            assert await name(reader, cls) == "new"
            with flusher(here):
                await eventually(lambda: held(here, cls), {})
            await eventually(lambda: looked_up(reader, here, cls), "new")


def asked(client: AsyncClient | Client) -> Callable[[], int]:
    """How often the client has asked Kafka what flushers have carried out."""
    backlog, count = client._direct.cache._doubt._backlog, 0
    original = backlog.standings

    def standings() -> Any:
        nonlocal count
        count += 1
        return original()

    backlog.standings = standings  # type: ignore[method-assign]  # counted
    return lambda: count


@BOTH
@pytest.mark.parametrize("broker", ["there", "away"])
async def test_after_an_outage_nothing_is_served_before_a_flusher_carried_out_what_went_around_the_cache(
    stack: Guarded, cls: type[Aside | Through], broker: str
) -> None:
    """Whenever that is, and also when the writer is no more."""
    with corner(stack, cache={"budget_s": 0.5, "breaker_open_s": 0.1}) as here:
        async with AsyncClient.open(here.settings) as reader:
            times = asked(reader)
            async with AsyncClient.open(here.settings) as writer:
                await writer.create(cls, 1, name="old")
                assert await name(reader, cls) == "old"
                await at_rest(reader)
                await asyncio.to_thread(break_cache, stack, "killed")
                try:
                    await writer.update(cls, 1, name="new")
                finally:
                    await asyncio.to_thread(mend_cache, stack, "killed")
            if broker == "away":
                stack.kafka.pause()
            try:
                deadline = time.monotonic() + TIMEOUT_S
                while times() < 3:
                    assert await name(reader, cls) == "new"
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.05)
            finally:
                stack.kafka.resume()
            assert (await held(here, cls))["name"] == "old"
            with flusher(here):
                await eventually(lambda: looked_up(reader, here, cls), "new")
            assert not reader._direct.cache._doubt.open


@BOTH
def test_the_synchronous_client_waits_for_a_flusher_too(stack: Guarded, cls: type[Aside | Through]) -> None:
    with corner(stack, cache={"budget_s": 0.5, "breaker_open_s": 0.1}) as here, Client.open(here.settings) as client:
        times = asked(client)
        client.create(cls, 1, name="old")
        client.get(cls, 1)
        break_cache(stack, "killed")
        try:
            client.update(cls, 1, name="new")
        finally:
            mend_cache(stack, "killed")
        deadline = time.monotonic() + TIMEOUT_S
        while times() < 3:
            found = client.get(cls, 1)
            assert found is not None
            assert found.name == "new"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with flusher(here):
            while here.entry(cls, "1").get("name") != "new":
                client.get(cls, 1)
                assert time.monotonic() < deadline + TIMEOUT_S
                time.sleep(0.05)


async def held(here: World, cls: type[Aside | Through]) -> dict[str, str]:
    return await asyncio.to_thread(here.entry, cls, "1")


async def looked_up(client: AsyncClient, here: World, cls: type[Aside | Through]) -> str | None:
    """What the entry shows once the client fills it again."""
    await name(client, cls)
    return (await held(here, cls)).get("name")


@BOTH
async def test_a_sick_cache_costs_one_budget_per_breaker_window(stack: Guarded, cls: type[Aside | Through]) -> None:
    with corner(stack, cache={"budget_s": 0.3, "breaker_open_s": 3600.0}) as here:
        async with AsyncClient.open(here.settings) as client:
            await client.create(cls, 1, name="old")
            cache, failures = client._direct.cache, 0
            original = cache._failed

            def failed(error: Exception) -> None:
                nonlocal failures
                failures += 1
                original(error)

            cache._failed = failed  # type: ignore[method-assign]  # counted
            stack.valkey.pause()
            try:
                for n in range(20):
                    await client.update(cls, 1, name=str(n))
                    assert await name(client, cls) == str(n)
            finally:
                stack.valkey.resume()
            assert failures == 1


async def test_an_entity_that_wants_to_fail_without_the_cache_does_and_writes_nothing(stack: Guarded) -> None:
    with corner(stack, cache={"budget_s": 0.3}) as here:
        async with AsyncClient.open(here.settings) as client:
            await client.create(Strict, 1, name="old")
            stack.valkey.pause()
            try:
                with pytest.raises(NotApplied, match="on_cache_down"):
                    await client.update(Strict, 1, name="new")
            finally:
                stack.valkey.resume()
        assert here.execute("SELECT name FROM stricts") == [("old",)]


@BOTH
async def test_without_cache_and_broker_nothing_is_written(stack: Guarded, cls: type[Aside | Through]) -> None:
    with corner(stack, cache={"budget_s": 0.3}) as here:
        async with AsyncClient.open(here.settings) as client:
            await client.create(cls, 1, name="old")
            stack.valkey.pause()
            stack.kafka.pause()
            try:
                with pytest.raises(NotApplied, match="neither the cache nor the broker"):
                    await client.update(cls, 1, name="new", timeout_s=1.0)
            finally:
                stack.kafka.resume()
                stack.valkey.resume()
            assert here.execute(f"SELECT name FROM {cls.__place__.table}") == [("old",)]
            await eventually(lambda: name(client, cls), "old")


@BOTH
async def test_a_writer_killed_while_the_cache_is_away_is_covered_by_its_record(
    stack: Guarded, cls: type[Aside | Through]
) -> None:
    """What dies between the row and the second record is told here by a client that never gets there."""
    with corner(stack, cache={"budget_s": 0.3}) as here:
        async with AsyncClient.open(here.settings) as client, patient(here) as other:
            await client.create(cls, 1, name="old")
            await client.get(cls, 1)
            stack.valkey.pause()
            never = asyncio.Event()
            reached = asyncio.Event()

            async def stay() -> None:
                reached.set()
                await never.wait()

            at(client, "after the row", stay)
            writing = asyncio.create_task(client.update(cls, 1, name="new"))
            await reached.wait()
            stack.valkey.resume()
            assert await name(other, cls) in ("old", "new")  # nobody has told the cache yet
            with flusher(here):
                await eventually(lambda: name(other, cls), "new")
                assert bookkeeping.of(here.entry(cls, "1")).intents == 1
            never.set()
            await writing


@BOTH
async def test_without_the_database_what_is_cached_is_served_and_nothing_else_pretended(
    stack: Guarded, cls: type[Aside | Through]
) -> None:
    with corner(stack) as here:
        async with AsyncClient.open(here.settings) as client:
            await client.create(cls, 1, name="one")
            await client.get(cls, 1)
            stack.postgres.kill()
            try:
                assert await name(client, cls) == "one"
                with pytest.raises(DatabaseDown):
                    await client.get(cls, 2)
                with pytest.raises((NotApplied, Unknown)):
                    await client.update(cls, 1, name="two", timeout_s=1.0)
                with pytest.raises(NotApplied):
                    await client.update(cls, 1, name="three", timeout_s=1.0)
            finally:
                stack.postgres.start()
                stack.postgres.wait_ready()
            [(row,)] = here.execute(f"SELECT name FROM {cls.__place__.table}")
            assert row == "one"
            await eventually(lambda: quiet(client, cls), "one")


async def quiet(client: AsyncClient, cls: type[Aside | Through]) -> str | None:
    try:
        return await name(client, cls)
    except WritebehindError:
        return None


@BOTH
@pytest.mark.parametrize("step", ["before the row"])
async def test_a_database_that_goes_under_a_write_leaves_no_entry(
    stack: Guarded, cls: type[Aside | Through], step: str
) -> None:
    with corner(stack) as here:
        async with AsyncClient.open(here.settings) as client:
            await client.create(cls, 1, name="old")

            async def cut() -> None:
                url = here.corner.database_url
                async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                    await connection.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE application_name = 'writebehind-producer'"
                    )

            at(client, step, cut)
            with pytest.raises((NotApplied, Unknown)):
                await client.update(cls, 1, name="new")
        async with AsyncClient.open(here.settings) as client:
            [(row,)] = here.execute(f"SELECT name FROM {cls.__place__.table}")
            assert await name(client, cls) == row == "old"


@BOTH
def test_the_synchronous_client_writes_without_the_cache_too(stack: Guarded, cls: type[Aside | Through]) -> None:
    with corner(stack, cache={"budget_s": 0.3}) as here, Client.open(here.settings) as client:
        client.create(cls, 1, name="old")
        client.get(cls, 1)
        stack.valkey.pause()
        try:
            client.update(cls, 1, name="new")
            found = client.get(cls, 1)
            assert found is not None
            assert found.name == "new"
        finally:
            stack.valkey.resume()

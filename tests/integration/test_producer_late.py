"""Writes whose time is over before they were handed to the broker. The cache is real; a test holds back its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.integration.producer_world import Player, World, world
from writebehind.embedded import Isolation
from writebehind.producer import AsyncClient, Unknown

BOUND_S = 60.0


@pytest.fixture
def here(writebehind_isolated: Isolation) -> Iterator[World]:
    with world(writebehind_isolated) as made:
        yield made


@asynccontextmanager
async def held_back(client: AsyncClient) -> AsyncIterator[asyncio.Event]:
    """The cache carries scripts out, and its answers come once the event is set."""
    cache: Any = client._cache
    original, let = cache.run, asyncio.Event()

    async def run(call: Any) -> Any:
        reply = await original(call)
        await let.wait()
        return reply

    cache.run = run
    try:
        yield let
    finally:
        let.set()
        cache.run = original


async def emptied(client: AsyncClient) -> None:
    """Until nothing has room in the outbox any more."""
    deadline = time.monotonic() + BOUND_S
    while client._writer.outbox.in_flight:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_a_write_that_the_cache_answers_too_late_is_unknown_and_applied_once(here: World) -> None:
    async with AsyncClient.open(here.settings) as client:
        await client.update(Player, 1, score=1)
        async with held_back(client):
            with pytest.raises(Unknown) as raised:
                await client.update(Player, 1, score=10, timeout_s=0.1)
            assert raised.value.version is None
        await emptied(client)
        await client.update(Player, 1, score=100)
    assert sum(row[6] for _, row in here.records(Player)) == 111


async def test_an_increment_whose_caller_is_gone_when_it_needs_a_base_is_not_applied(here: World) -> None:
    async with AsyncClient.open(here.settings) as client:
        await client.update(Player, 1, name="Ada")
        for caller in ("impatient", "cancelled"):
            async with held_back(client):
                call = client.add(Player, 2, score=10, timeout_s=0.1 if caller == "impatient" else BOUND_S)
                if caller == "impatient":
                    with pytest.raises(Unknown):
                        await call
                else:
                    task = asyncio.create_task(call)
                    await asyncio.sleep(0.1)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
            await emptied(client)
    assert [key for key, _ in here.records(Player)] == ["1"]


async def test_of_many_writes_those_that_need_a_base_get_it_and_the_others_wait_for_them(here: World) -> None:
    here.execute("INSERT INTO players (id, score) VALUES (2, 5), (4, 50)")
    async with AsyncClient.open(here.settings) as client:
        patches: list[tuple[int, dict[str, Any]]] = [
            (1, {"name": "Ada"}),
            (2, {"score": 1}),
            (3, {"best": 7}),
            (4, {"score": 1}),
        ]
        receipts = await client.update_many(Player, patches, timeout_s=BOUND_S)
        assert all(receipt.offset >= 0 for receipt in receipts)
        found = await client.get_many(Player, [2, 4])
        assert [found[key].score for key in (2, 4)] == [6, 51]


async def test_a_fault_of_ours_is_told_to_whoever_waits_and_spoils_no_later_call(here: World) -> None:
    async with AsyncClient.open(here.settings) as client:
        await client.update(Player, 1, score=1)
        scripts: Any = client._targets[Player].scripts
        original = scripts.write

        def broken(*_: Any, **__: Any) -> None:
            raise RuntimeError("broken")

        scripts.write = broken
        with pytest.raises(RuntimeError, match="broken"):
            await client.update(Player, 1, score=10, timeout_s=BOUND_S)
        scripts.write = original
        await emptied(client)
        await client.update(Player, 1, score=100)
    assert sum(row[6] for _, row in here.records(Player)) == 101

"""Results of functions on the real cache: one load for all, nothing old after an invalidation, life without a cache."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from tests.integration.direct_world import MODULE, Page, direct_world
from tests.integration.flusher_process import Flusher, wait_until
from tests.integration.guarded import Guarded
from tests.integration.producer_world import World
from writebehind.embedded import Isolation
from writebehind.producer import AsyncClient, Client, InvalidWrite, NotApplied, cached

TIMEOUT_S = 60.0


@pytest.fixture
def here(writebehind_isolated: Isolation) -> Iterator[World]:
    with direct_world(writebehind_isolated) as made:
        yield made


@dataclass(frozen=True)
class Leader:
    name: str
    paid: Decimal
    since: dt.datetime | None
    page: Page


class Source:
    """What a function reads: it counts, and may be stopped on the way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.begin()

    def begin(self) -> None:
        """As it is at the begin of a test."""
        self.value: Any = "old"
        self.loads = 0
        self.at_once = self.at_once_max = 0
        self.reached, self.opened = asyncio.Event(), asyncio.Event()
        self.opened.set()

    @contextmanager
    def loading(self) -> Iterator[None]:
        with self._lock:
            self.loads += 1
            self.at_once += 1
            self.at_once_max = max(self.at_once, self.at_once_max)
        try:
            yield
        finally:
            with self._lock:
                self.at_once -= 1

    async def read(self) -> Any:
        with self.loading():
            value = self.value
            self.reached.set()
            await self.opened.wait()
            await asyncio.sleep(0.01)
            return value


SOURCE = Source()


@pytest.fixture(autouse=True)
def source() -> Source:
    SOURCE.begin()
    return SOURCE


@cached(ttl_s=100, loads_max=3)
async def told(client: AsyncClient, about: int = 0) -> str | None:
    found: str | None = await SOURCE.read()
    return found


@cached(ttl_s=100, loads_max=3, name="told to threads")
def told_threads(client: Client, about: int = 0) -> str:
    with SOURCE.loading():
        threading.Event().wait(0.05)
        return str(SOURCE.value)


@cached(ttl_s=100)
async def leaders(client: AsyncClient, sites: tuple[str, ...], *, limit: int = 10) -> list[Leader]:
    SOURCE.loads += 1
    query = "SELECT site, path, title FROM pages WHERE site = ANY(%s) ORDER BY path LIMIT %s"
    async with client.transaction() as connection:
        rows = await (await connection.execute(query, (list(sites), limit))).fetchall()
    when = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    return [Leader(t, Decimal("1.50"), when, Page(site=s, path=p, title=t)) for s, p, t in rows]


def kept(here: World, pattern: str = "@*") -> list[tuple[dict[Any, Any], int]]:
    """The entries of functions, each with the milliseconds it has to live."""
    with redis.Redis.from_url(here.corner.cache_url, decode_responses=True) as client:
        keys = sorted(client.scan_iter(f"{here.settings.cache.prefix}:{{{pattern}"))
        return [(dict(client.hgetall(key)), int(client.pttl(key))) for key in keys]


async def test_a_stampede_of_two_processes_clients_is_one_load(here: World, source: Source) -> None:
    async with AsyncClient.open(here.settings) as one, AsyncClient.open(here.settings) as two:
        source.opened.clear()
        callers = [asyncio.create_task(told(client, 1)) for client in (one, two) * 50]
        await source.reached.wait()
        await asyncio.sleep(0.1)  # the others have looked, and look again
        source.opened.set()
        assert await asyncio.gather(*callers) == ["old"] * 100
        assert source.loads == 1
        assert await told(one, 2) == "old"
        assert source.loads == 2  # another key


def test_a_stampede_of_threads_is_one_load(here: World, source: Source) -> None:
    with Client.open(here.settings) as client, ThreadPoolExecutor(30) as pool:
        assert list(pool.map(lambda _: told_threads(client, 1), range(100))) == ["old"] * 100
        assert source.loads == 1
        source.value = "new"
        assert told_threads(client, 1) == "old"
        told_threads.invalidate(client, about=1)
        assert told_threads(client, 1) == "new"


async def test_an_invalidation_during_a_load_leaves_nothing_old(here: World, source: Source) -> None:
    async with AsyncClient.open(here.settings) as client, AsyncClient.open(here.settings) as other:
        source.opened.clear()
        loading = asyncio.create_task(told(client, 1))
        await source.reached.wait()
        source.value = "new"
        await told.invalidate(other, 1)
        source.opened.set()
        assert await loading == "old"  # it began before
        assert kept(here) == []
        assert await told(client, 1) == "new"
        assert await told(other, 1) == "new"
        assert source.loads == 2


async def test_those_who_wait_for_a_load_that_was_invalidated_get_what_is_new(here: World, source: Source) -> None:
    async with AsyncClient.open(here.settings) as client:
        source.opened.clear()
        loading = asyncio.create_task(told(client, 1))
        await source.reached.wait()
        source.value = "new"
        await told.invalidate(client, 1)
        waiting = [asyncio.create_task(told(client, 1)) for _ in range(10)]
        source.opened.set()
        assert await asyncio.gather(*waiting) == ["new"] * 10
        assert await loading == "old"
        assert source.loads == 2


async def test_composite_results_come_back_as_they_were(here: World, source: Source) -> None:
    async with AsyncClient.open(here.settings) as client:
        for path in ("b", "a", "{c}"):
            await client.create(Page, ("s", path), title=path)
        first = await leaders(client, ("s", "t"), limit=2)
        assert [leader.page.path for leader in first] == ["a", "b"]
        again = await leaders(client, ("s", "t"), limit=2)
        assert again == first
        assert again[0] is not first[0]
        assert source.loads == 1
        await leaders.invalidate(client, ("s", "t"), limit=2)
        assert len(await leaders(client, ("s", "t"))) == 3
        assert await leaders(client, ()) == []
        assert source.loads == 3


async def test_none_is_kept_for_a_short_time_and_results_for_their_own_less_jitter(here: World, source: Source) -> None:
    async with AsyncClient.open(here.settings) as client:
        source.value = None
        assert await told(client, 1) is None
        assert await told(client, 1) is None
        assert source.loads == 1
        [(_, left_ms)] = kept(here)
        assert 0 < left_ms <= 5_000
        await told.invalidate(client, 1)
        source.value = "x"
        for about in range(10):
            await told(client, about)
        left = [left_ms for _, left_ms in kept(here)]
        assert all(20_000 < left_ms <= 100_000 for left_ms in left)
        assert max(left) - min(left) > 100


async def test_a_load_that_fails_lets_the_next_one_load(here: World, source: Source) -> None:
    @cached(ttl_s=100)
    async def fails_first(client: AsyncClient) -> int:
        with SOURCE.loading():
            if SOURCE.loads == 1:
                raise ZeroDivisionError
            return 7

    async with AsyncClient.open(here.settings) as client:
        with pytest.raises(ZeroDivisionError):
            await fails_first(client)
        assert await asyncio.wait_for(fails_first(client), 5) == 7  # and not after load_s


async def test_a_cancelled_load_lets_the_next_one_load(here: World, source: Source) -> None:
    async with AsyncClient.open(here.settings) as client:
        source.opened.clear()
        loading = asyncio.create_task(told(client, 1))
        await source.reached.wait()
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        source.opened.set()
        assert await asyncio.wait_for(told(client, 1), 5) == "old"


async def test_what_an_older_release_kept_or_what_is_too_large_is_loaded(here: World, source: Source) -> None:
    async with AsyncClient.open(here.settings) as client:
        await told(client, 1)
        with redis.Redis.from_url(here.corner.cache_url) as raw:
            [key] = raw.scan_iter(f"{here.settings.cache.prefix}:{{@*")
            raw.hset(key, "v", json.dumps({"another": "type"}))
        assert await told(client, 1) == "old"
        assert await told(client, 1) == "old"
        assert await told(client, 1) == "old"
        assert source.loads == 3  # once past the entry, and once into it
        source.value = "x" * (here.settings.cache.patch_bytes_max + 1)
        assert await told(client, 2) == await told(client, 2) == source.value
        assert len(kept(here)) == 1


async def test_a_result_of_another_type_is_an_error_and_not_kept(here: World, source: Source) -> None:
    async with AsyncClient.open(here.settings) as client:
        source.value = 7
        with pytest.raises(InvalidWrite, match="not of the type"):
            await told(client, 1)
        assert kept(here) == []


async def test_a_hot_result_is_loaded_before_it_expires_and_outlives_a_failure_to(here: World, source: Source) -> None:
    @cached(ttl_s=20, early_recompute_beta=100, name="hot")
    async def hot(client: AsyncClient) -> int:
        with SOURCE.loading():
            if SOURCE.value == "broken":
                raise ZeroDivisionError
            await asyncio.sleep(
                0.2
            )  # × 100 × an exponential draw: due when that is beyond ttl_s, as every third look finds
            return SOURCE.loads

    async with AsyncClient.open(here.settings) as client:
        for _ in range(300):
            if await hot(client) > 1:
                break
        assert source.loads > 1
        source.value, before = "broken", source.loads
        for _ in range(300):
            assert await hot(client) == before
            if source.loads > before:
                break
        assert source.loads > before


def dead(here: World) -> World:
    """The same servers, and a cache for which nobody listens."""
    cache = here.settings.cache.model_copy(update={"url": SecretStr("rediss://127.0.0.1:1/0")})
    return replace(here, settings=here.settings.model_copy(update={"cache": cache}))


async def test_without_a_cache_few_load_at_once_and_those_who_ask_the_same_share(here: World, source: Source) -> None:
    async with AsyncClient.open(dead(here).settings) as client:
        callers = [told(client, about) for about in range(20) for _ in range(10)]
        assert await asyncio.gather(*callers) == ["old"] * 200
        assert source.at_once_max == 3
        assert 20 <= source.loads <= 60
        source.opened.clear()
        source.reached.clear()
        early = asyncio.create_task(told(client, 1))
        await source.reached.wait()
        source.value = "new"
        late = asyncio.create_task(told(client, 1))  # the load that is under way began before it
        source.opened.set()
        assert (await early, await late) == ("old", "new")


def test_without_a_cache_few_threads_load_at_once(here: World, source: Source) -> None:
    with Client.open(dead(here).settings) as client, ThreadPoolExecutor(40) as pool:
        assert set(pool.map(lambda n: told_threads(client, n % 10), range(100))) == {"old"}
    assert 1 < source.at_once_max <= 3
    assert source.loads < 100


def test_while_the_cache_is_down_the_flusher_carries_the_invalidation_out(
    breakable_stack: Guarded, tmp_path: Path, source: Source
) -> None:
    with (
        breakable_stack.corner() as corner,
        direct_world(corner, cache={"budget_s": 0.3}) as here,
        Client.open(here.settings) as client,
    ):
        told_threads(client, 1)
        source.value = "new"
        breakable_stack.valkey.pause()
        try:
            told_threads.invalidate(client, 1)
        finally:
            breakable_stack.valkey.resume()
        assert len(kept(here)) == 1
        flusher = Flusher(here.env_of("flusher"), [MODULE], tmp_path / "log")
        try:
            wait_until(lambda: kept(here) == [], "the flusher to carry it out")
        finally:
            flusher.stop()
        assert told_threads(client, 1) == "new"


async def test_an_invalidation_that_nobody_takes_is_an_error(breakable_stack: Guarded) -> None:
    short: dict[str, Any] = {"timeout_s": 1.0, "close_timeout_s": 0.5}
    with breakable_stack.corner() as corner, direct_world(corner, producer=short) as here:
        client = await AsyncClient.open(dead(here).settings).start()
        breakable_stack.kafka.pause()
        try:
            with pytest.raises(NotApplied, match="neither the cache nor the broker"):
                await told.invalidate(client, 1)
        finally:
            breakable_stack.kafka.resume()
        await client.close()

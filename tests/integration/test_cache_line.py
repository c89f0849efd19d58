"""The asynchronous client's connection to the cache: each caller gets its own answer, whatever happens to others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
from redis.exceptions import ConnectionError as CacheConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as CacheTimeoutError

from tests.faults.proxy import Proxy, port_of
from tests.integration.guarded import through
from writebehind.embedded import Isolation
from writebehind.producer.backends.aio_line import AsyncCacheLine
from writebehind.shared.scripts import Call, Script
from writebehind.shared.settings import CacheSettings

ECHO = Script.of("return ARGV[1]")
FAILS = Script.of("return redis.error_reply('MINE not this')")
SLOW = Script.of("local n = 0; while n < tonumber(ARGV[1]) do n = n + 1 end; return ARGV[2]")


def echo(text: str) -> Call:
    return Call(ECHO, [], (text,))


@asynccontextmanager
async def line_to(url: str, timeout_s: float = 60.0) -> AsyncIterator[AsyncCacheLine]:
    line = AsyncCacheLine(CacheSettings.model_validate({"url": url, "timeout_s": timeout_s, "connect_timeout_s": 60.0}))
    try:
        yield line
    finally:
        await line.close()


@pytest.fixture
def url(writebehind_isolated: Isolation) -> str:
    return writebehind_isolated.cache_url


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    with Proxy(port_of(url)) as running:
        yield running


async def test_concurrent_calls_share_one_connection_and_get_their_own_answers(url: str) -> None:
    async with line_to(url) as line:
        calls = [line.run(echo(str(number))) for number in range(500)]
        assert await asyncio.gather(*calls) == [str(number).encode() for number in range(500)]
        with redis.Redis.from_url(url, decode_responses=True) as other:
            mine = await line._ask([("CLIENT", "ID")])
            assert [one["id"] for one in other.client_list() if one["id"] == str(mine[0])] == [str(mine[0])]
        assert line.lost == 0


async def test_a_cancelled_caller_leaves_nobody_else_its_answer(url: str) -> None:
    async with line_to(url) as line:
        await line.run(echo("warm"))
        slow = Call(SLOW, [], (3_000_000, "slow"))
        tasks = [asyncio.create_task(line.run(call)) for call in (slow, echo("a"), slow, echo("b"))]
        await asyncio.sleep(0)  # all are sent
        tasks[0].cancel()
        tasks[1].cancel()
        given_up = await asyncio.gather(*tasks[:2], return_exceptions=True)
        assert [type(one) for one in given_up] == [asyncio.CancelledError] * 2
        assert await asyncio.gather(*tasks[2:], line.run(echo("c"))) == [b"slow", b"b", b"c"]
        assert line.lost == 0


async def test_a_caller_cancelled_while_the_line_is_made_leaves_it_to_the_others(url: str, proxy: Proxy) -> None:
    proxy.to_client.stall()
    async with line_to(through(url, proxy.port)) as line:
        first = asyncio.create_task(line.run(echo("first")))
        second = asyncio.create_task(line.run(echo("second")))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        proxy.to_client.flow()
        assert await second == b"second"
        assert line.lost == 0


async def test_an_answer_that_is_an_error_is_its_caller_s_alone(url: str) -> None:
    async with line_to(url) as line:
        found = await asyncio.gather(
            line.run(echo("1")), line.run(Call(FAILS, [], ())), line.run(echo("2")), return_exceptions=True
        )
        assert (found[0], found[2]) == (b"1", b"2")
        assert isinstance(found[1], ResponseError)
        assert "not this" in str(found[1])
        assert line.lost == 0


async def test_a_cache_that_forgot_its_scripts_is_told_them_again(url: str) -> None:
    async with line_to(url) as line:
        assert await line.run(echo("1")) == b"1"
        with redis.Redis.from_url(url) as other:
            other.script_flush()
        assert await line.run(echo("2")) == b"2"


async def test_no_answer_in_time_fails_all_who_wait_and_the_next_call_has_a_new_line(url: str, proxy: Proxy) -> None:
    async with line_to(through(url, proxy.port), timeout_s=1.0) as line:
        await line.run(echo("warm"))
        proxy.to_client.stall()
        found = await asyncio.gather(*[line.run(echo(str(n))) for n in range(3)], return_exceptions=True)
        assert [type(one) for one in found] == [CacheTimeoutError] * 3
        proxy.to_client.flow()
        assert await eventually(line) == b"back"
        assert line.lost >= 1


async def test_a_reset_fails_who_waits_and_is_known_while_nobody_does(url: str, proxy: Proxy) -> None:
    async with line_to(through(url, proxy.port)) as line:
        await line.run(echo("warm"))
        proxy.to_client.stall()
        waiting = asyncio.create_task(line.run(echo("never")))
        await asyncio.sleep(0)
        proxy.reset()
        with pytest.raises(CacheConnectionError):
            await waiting
        assert line.lost == 1
        proxy.to_client.flow()
        assert await eventually(line) == b"back"
        known = line.lost
        proxy.reset()
        async with asyncio.timeout(60):
            while line.lost == known:  # noqa: ASYNC110  # a counter, which nobody announces
                await asyncio.sleep(0.01)
        assert await eventually(line) == b"back"


async def test_a_line_that_was_reset_can_be_closed(url: str, proxy: Proxy) -> None:
    async with line_to(through(url, proxy.port)) as line:
        await line.run(echo("warm"))
        proxy.reset()
        async with asyncio.timeout(60):
            while not line.lost:  # noqa: ASYNC110  # a counter, which nobody announces
                await asyncio.sleep(0.01)


async def test_without_a_cache_each_call_says_so(url: str) -> None:
    with Proxy(port_of(url)) as proxy:
        nowhere = through(url, proxy.port)
    async with line_to(nowhere) as line:
        for number in (1, 2):
            with pytest.raises(CacheConnectionError):
                await line.run(echo("nobody"))
            assert line.lost == number


@pytest.mark.parametrize("protocol", [2, 3])
async def test_hashes_and_settings_are_read_by_either_protocol(url: str, protocol: int) -> None:
    asked = f"{url}{'&' if '?' in url else '?'}protocol={protocol}"
    async with line_to(asked) as line:
        with redis.Redis.from_url(url) as other:
            other.hset("line", mapping={"name": "Ada", "empty": ""})
        assert await line.hashes(["line", "nothing"]) == [{"name": "Ada", "empty": ""}, {}]
        await line.unlink(["line", "nothing"])
        assert await line.hashes(["line"]) == [{}]
        assert await line.policy() == "noeviction"


async def eventually(line: AsyncCacheLine) -> Any:
    """The answer, once the proxy lets somebody through again."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await line.run(echo("back"))
            except RedisError:
                await asyncio.sleep(0.02)

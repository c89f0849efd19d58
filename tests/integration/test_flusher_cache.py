"""Scripts that are sent ahead of the answers to those before them. On a real Valkey."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from redis.exceptions import RedisError, ResponseError

from tests.faults.proxy import Moment, Proxy, port_of
from tests.faults.wire import Redis
from tests.integration.guarded import through
from writebehind.embedded.isolation import Isolation
from writebehind.flusher.cache import connect, evaluate, evaluate_each
from writebehind.shared.scripts import Call, Script
from writebehind.shared.settings import CacheSettings

APPEND = Script.of("return redis.call('RPUSH', KEYS[1], ARGV[1])")
FAIL_AT_2 = Script.of(
    "if ARGV[1] == '2' then return redis.error_reply('planted') end return redis.call('RPUSH', KEYS[1], ARGV[1])"
)


@contextmanager
def cache(corner: Isolation, port: int | None = None) -> Iterator[redis.Redis]:
    url = corner.cache_url if port is None else through(corner.cache_url, port)
    client = connect(CacheSettings.model_validate({"url": url}), "test")
    yield client
    client.close()


def calls(corner: Isolation, what: Script, count: int) -> Iterator[Call]:
    for number in range(1, count + 1):
        yield Call(what, [f"{corner.cache_prefix}:list"], [number])


def carried_out(client: redis.Redis, corner: Isolation) -> list[int]:
    return [int(value) for value in client.lrange(f"{corner.cache_prefix}:list", 0, -1)]


def test_each_is_carried_out_once_and_in_order(writebehind_isolated: Isolation) -> None:
    with cache(writebehind_isolated) as client:
        client.script_load(APPEND.text)
        assert list(evaluate_each(client, calls(writebehind_isolated, APPEND, 5))) == [1, 2, 3, 4, 5]
        assert carried_out(client, writebehind_isolated) == [1, 2, 3, 4, 5]
        assert list(evaluate_each(client, [])) == []


def test_scripts_that_the_cache_does_not_have_are_carried_out_once(writebehind_isolated: Isolation) -> None:
    unknown = Script.of(f"{APPEND.text} -- {writebehind_isolated.cache_prefix}")
    with cache(writebehind_isolated) as client:
        assert len(list(evaluate_each(client, calls(writebehind_isolated, unknown, 5)))) == 5
        assert sorted(carried_out(client, writebehind_isolated)) == [1, 2, 3, 4, 5]


def test_the_next_is_sent_before_the_answer_is_there(writebehind_isolated: Isolation) -> None:
    taken: list[int] = []

    def noting() -> Iterator[Call]:
        for call in calls(writebehind_isolated, APPEND, 4):
            taken.append(int(call.args[0]))
            yield call

    with cache(writebehind_isolated) as client:
        client.script_load(APPEND.text)
        replies = evaluate_each(client, noting())
        assert next(replies) == 1
        assert taken == [1, 2]
        assert next(replies) == 2
        assert taken == [1, 2, 3]
        assert list(replies) == [3, 4]


def test_after_an_error_nobody_reads_the_answer_to_what_was_sent_ahead(writebehind_isolated: Isolation) -> None:
    with cache(writebehind_isolated) as client:
        client.script_load(FAIL_AT_2.text)
        replies = evaluate_each(client, calls(writebehind_isolated, FAIL_AT_2, 5))
        assert next(replies) == 1
        with pytest.raises(ResponseError, match="planted"):
            next(replies)
        assert evaluate(client, Call(Script.of("return 'mine'"), [], [])) == b"mine"
        assert carried_out(client, writebehind_isolated)[:1] == [1]
        assert 4 not in carried_out(client, writebehind_isolated)


def test_a_connection_that_breaks_ends_it_and_nothing_is_sent_twice(writebehind_isolated: Isolation) -> None:
    with (
        Proxy(port_of(writebehind_isolated.cache_url), Redis) as proxy,
        cache(writebehind_isolated, proxy.port) as client,
        cache(writebehind_isolated) as other,
    ):
        other.script_load(APPEND.text)
        proxy.trap("EVALSHA", Moment.BEFORE_REPLY, cut=True, skip=1)
        with pytest.raises(RedisError):
            list(evaluate_each(client, calls(writebehind_isolated, APPEND, 5)))
        found = carried_out(other, writebehind_isolated)
        assert found == list(range(1, len(found) + 1))
        assert 2 <= len(found) <= 3
        assert evaluate(client, Call(Script.of("return 'mine'"), [], [])) == b"mine"

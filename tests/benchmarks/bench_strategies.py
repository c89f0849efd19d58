"""What cache-aside and write-through cost beside the bare calls they are made of, one after the other: `make
bench-strategies`.

Each ratio is bare time / ours, of medians, the two taken in turn: a hit against HGETALL of the same entry; a miss of
cache-aside against HGETALL, SELECT, HSET; a write-through write against HGET, UPDATE, HSET. And how many SELECTs a herd
of readers of one cold row causes.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import psycopg
import redis.asyncio

from writebehind.producer import AsyncClient, CacheAside, Entity, Key, WriteThrough
from writebehind.shared import naming

from .world import World, arguments, speaker, world

ROWS = 1_000
BODY = "x" * 100
HERD = 200
Call = Callable[[int], Awaitable[object]]
Rest = Callable[[], Awaitable[None]]


class _Row(Entity, abstract=True):
    id: Annotated[int, Key]
    name: str
    score: int


class BenchAside(_Row, table="bench_aside", strategy=CacheAside()):
    """A table."""


class BenchThrough(_Row, table="bench_through", strategy=WriteThrough()):
    """A table with versions."""


class BenchCold(_Row, table="bench_cold", strategy=CacheAside()):
    """A view that counts how often it is read."""


DDL = """
CREATE TABLE bench_aside (id bigint PRIMARY KEY, name text NOT NULL, score bigint NOT NULL) WITH (fillfactor = 80);
CREATE TABLE bench_through (id bigint PRIMARY KEY, name text NOT NULL, score bigint NOT NULL, version bigint)
    WITH (fillfactor = 80);
INSERT INTO bench_aside SELECT n, repeat('x', 100), n FROM generate_series(0, 999) AS n;
INSERT INTO bench_through SELECT n, repeat('x', 100), n FROM generate_series(0, 999) AS n;
CREATE SEQUENCE bench_selects;
CREATE VIEW bench_cold AS SELECT * FROM bench_aside WHERE nextval('bench_selects') > 0
"""


def main() -> int:
    args = arguments(__doc__, calls=(int, 5_000, "calls of each kind"))
    calls = 300 if args.quick else args.calls
    with world() as servers:
        result = asyncio.run(run(servers, calls, speaker(args)))
    print(json.dumps(result))
    return 0


async def run(servers: World, calls: int, say: Callable[[str], None]) -> dict[str, float]:
    with psycopg.connect(servers.url, autocommit=True) as setup:
        for statement in DDL.split(";"):
            setup.execute(statement.encode())
    # The budget is not what is measured: a call that does without the cache would count as a fast one.
    patient = servers.settings.cache.model_copy(update={"budget_s": 5.0})
    settings = servers.settings.model_copy(update={"cache": patient})
    cache = redis.asyncio.Redis.from_url(settings.cache.url.get_secret_value())
    connection = await psycopg.AsyncConnection.connect(servers.url, autocommit=True)
    async with AsyncClient.open(settings) as client, connection, cache:
        bare = _Bare(cache, connection, settings.cache.prefix)
        rest = _rest(client)
        result = {
            "hit_ratio": await _ratio("hit", bare.hit, _hit(client), calls, say, rest),
            "miss_ratio": await _ratio("miss", bare.miss, _get(client), calls, say, rest, before=bare.forget),
            "write_through_ratio": await _ratio("write-through", bare.write, _write(client), calls, say, rest),
        }
        await asyncio.gather(*[client.get(BenchCold, 1) for _ in range(HERD)])
        row = await (await connection.execute("SELECT last_value FROM bench_selects")).fetchone()
        result["herd_selects"] = row[0] if row else 0
    return result


class _Bare:
    """What a service would send without the library."""

    def __init__(self, cache: Any, connection: psycopg.AsyncConnection[Any], prefix: str) -> None:
        self._cache, self._connection, self._prefix = cache, connection, prefix

    async def hit(self, key: int) -> object:
        return await self._cache.hgetall(self._entry("bench_through", 0))

    async def miss(self, key: int) -> object:
        await self._cache.hgetall(f"bare:{key}")
        cursor = await self._connection.execute("SELECT id, name, score FROM bench_aside WHERE id = %b", (key % ROWS,))
        row = await cursor.fetchone()
        return await self._cache.hset("bare", mapping={"name": row[1], "score": row[2]} if row else {})

    async def write(self, key: int) -> object:
        await self._cache.hget("bare", "name")
        text = "UPDATE bench_through SET name = %b, score = %b WHERE id = %b"
        await self._connection.execute(text, (BODY, key, key % ROWS))
        return await self._cache.hset("bare", mapping={"name": BODY, "score": key})

    async def forget(self, key: int) -> object:
        return await self._cache.unlink(self._entry("bench_aside", key % ROWS))

    def _entry(self, entity: str, key: int) -> str:
        return naming.cache_key(self._prefix, entity, str(key))


def _rest(client: AsyncClient) -> Rest:
    """Waits for what a call has begun and not waited for: the next call is not to be charged with it."""
    runtime = client._runtime  # pyright: ignore[reportPrivateUsage]  # nothing public waits for it without closing
    return lambda: runtime.join(5.0)


def _hit(client: AsyncClient) -> Call:
    return lambda _key: client.get(BenchThrough, 0)


def _get(client: AsyncClient) -> Call:
    return lambda key: client.get(BenchAside, key % ROWS)


def _write(client: AsyncClient) -> Call:
    # Not the row of the hits; a bare write of the same row before it has its page in memory for both.
    return lambda key: client.update(BenchThrough, key % ROWS, name=BODY, score=key)


async def _ratio(
    name: str,
    bare: Call,
    ours: Call,
    calls: int,
    say: Callable[[str], None],
    rest: Rest,
    *,
    before: Call | None = None,
) -> float:
    took: dict[str, list[float]] = {"bare": [], "ours": []}
    for number in range(calls + calls // 10):
        for which, call in (("bare", bare), ("ours", ours)):
            if before is not None:
                await before(number)
            began = time.perf_counter()
            await call(number)
            if number >= calls // 10:  # warm by then
                took[which].append(time.perf_counter() - began)
            await rest()
    bare_s, ours_s = statistics.median(took["bare"]), statistics.median(took["ours"])
    say(f"{name}: bare {bare_s * 1e6:.0f} µs, ours {ours_s * 1e6:.0f} µs (p50)")
    return round(bare_s / ours_s, 3)


if __name__ == "__main__":
    sys.exit(main())

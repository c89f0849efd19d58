"""Acknowledged writes per second from one process, the flusher not running: `make bench-produce`.

Beside it the two things every write costs, each alone and with ready arguments: the multi-key script, and `produce`.
The first rounds are not counted: a broker that has just started compiles its code meanwhile, on the same processors.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import statistics
import sys
import time
from typing import Any

import redis
from confluent_kafka import Producer

from writebehind.producer import AsyncClient
from writebehind.producer.outbox import producer_config
from writebehind.producer.write import Target, check_update
from writebehind.shared.declaration import declaration_of

from .entities import BenchUpdate
from .world import World, arguments, speaker, world

WARM_UP_ROUNDS = 2
CHUNK = 1_000
CHUNKS_IN_FLIGHT = 4
TASKS = 256
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def main() -> int:
    args = arguments(__doc__, writes=(int, 100_000, "writes per measurement"), rounds=(int, 5, "medians of so many"))
    if args.quick:
        args.writes, args.rounds = 10_000, 1
    warm_up = 0 if args.quick else WARM_UP_ROUNDS
    say = speaker(args)
    with world() as servers:
        rounds = [asyncio.run(one_round(servers, args.writes)) for _ in range(warm_up + args.rounds)][warm_up:]
    for found in rounds:
        say("   ".join(f"{name} {rate:,.0f}/s" for name, rate in found.items()))
    median = {name: statistics.median(found[name] for found in rounds) for name in rounds[0]}
    ratios = {
        name: statistics.median(found[name] / min(found["script"], found["produce"]) for found in rounds)
        for name in ("update_many", "update")
    }
    result = {
        "update_many_per_s": round(median["update_many"]),
        "update_per_s": round(median["update"]),
        "update_many_ratio": round(ratios["update_many"], 2),
        "update_ratio": round(ratios["update"], 2),
        "bare_script_per_s": round(median["script"]),
        "bare_produce_per_s": round(median["produce"]),
    }
    print(json.dumps(result))
    return 0


async def one_round(servers: World, writes: int) -> dict[str, float]:
    target = Target(declaration_of(BenchUpdate), servers.settings.kafka.topic_prefix, servers.settings.cache.prefix)
    found = {"script": bare_script(servers, target, writes), "produce": bare_produce(servers, target, writes)}
    async with AsyncClient.open(servers.settings) as client:
        await client.update(BenchUpdate, 0, **patch(0))
        found["update_many"] = await update_many(client, writes)
        found["update"] = await update(client, writes // 2)
    return found


def patch(number: int) -> dict[str, Any]:
    return {"name": f"name {number}", "score": number, "updated_at": NOW}


def bare_script(servers: World, target: Target, writes: int) -> float:
    """Writes/s of the write script with ready arguments, one call after the other."""
    client = redis.Redis.from_url(servers.settings.cache.url.get_secret_value())
    calls = []
    for start in range(0, writes, CHUNK):
        group = [
            check_update(target, number, patch(number), size_max=1 << 20) for number in range(start, start + CHUNK)
        ]
        keys, patches = [write.entry for write in group], [write.cache_patch for write in group]
        calls.append(target.scripts.write(keys, patches, seen=0, token="", lease_us=1))
    client.script_load(calls[0].script.text)
    began = time.perf_counter()
    for call in calls:
        client.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
    took_s = time.perf_counter() - began
    client.close()
    return writes / took_s


def bare_produce(servers: World, target: Target, writes: int) -> float:
    """Acknowledged records/s of `produce` with ready records."""
    producer = Producer(producer_config(servers.settings))
    group = [check_update(target, number, patch(number), size_max=1 << 20) for number in range(writes)]
    ready = [(write.record(), write.key_text.encode()) for write in group]
    done: list[None] = []
    began = time.perf_counter()
    for record, key in ready:
        producer.produce(target.topic, record, key, on_delivery=lambda _error, _message: done.append(None))
    producer.flush(60)
    took_s = time.perf_counter() - began
    if len(done) != writes:
        raise RuntimeError("the broker did not take every record")
    return writes / took_s


async def update_many(client: AsyncClient, writes: int) -> float:
    """Acknowledged writes/s in chunks of 1,000, a few in flight."""
    chunks = iter(range(0, writes, CHUNK))

    async def work() -> None:
        for start in chunks:
            await client.update_many(BenchUpdate, [(number, patch(number)) for number in range(start, start + CHUNK)])

    began = time.perf_counter()
    await asyncio.gather(*[work() for _ in range(CHUNKS_IN_FLIGHT)])
    return writes / (time.perf_counter() - began)


async def update(client: AsyncClient, writes: int) -> float:
    """Acknowledged writes/s of single updates from concurrent tasks."""
    numbers = iter(range(writes))

    async def work() -> None:
        for number in numbers:
            await client.update(BenchUpdate, number, **patch(number))

    began = time.perf_counter()
    await asyncio.gather(*[work() for _ in range(TASKS)])
    return writes / (time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main())

"""Latency of an acknowledged write beside a plain UPDATE + COMMIT, at the same offered load: `make bench-latency`.

Open loop: writes are due at fixed times whether or not the ones before are done, and latency counts from the time a
write was due, so that a stall is charged to every write that had to wait for it.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import psycopg
from psycopg_pool import AsyncConnectionPool

from writebehind.producer import AsyncClient

from .bench_produce import patch
from .entities import FILL, BenchUpdate
from .world import World, arguments, speaker, world

ROWS = 10_000
CONNECTIONS = 16
SATURATED_P99_S = 0.25  # beyond this the queue grows: the load is more than can be carried
Write = Callable[[int], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds."""

    p50: float
    p99: float


def main() -> int:
    args = arguments(__doc__, rate=(int, 2_000, "offered writes per second"), seconds=(float, 5.0, "length of a run"))
    if args.quick:
        args.seconds = 1.0
    with world() as servers:
        result = asyncio.run(run(servers, args.rate, args.seconds, speaker(args), quick=args.quick))
    print(json.dumps(result))
    return 0


async def run(
    servers: World, rate: int, seconds: float, say: Callable[[str], None], *, quick: bool
) -> dict[str, object]:
    with psycopg.connect(servers.url, autocommit=True) as connection:
        for statement in FILL.split(";"):
            connection.execute(statement.format(table="bench_update", rows=ROWS).encode())
    result: dict[str, object] = {"offered_per_s": rate}
    pool: AsyncConnectionPool[psycopg.AsyncConnection[object]] = AsyncConnectionPool(
        servers.url, min_size=CONNECTIONS, max_size=CONNECTIONS, open=False
    )
    await pool.open(wait=True)
    async with AsyncClient.open(servers.settings) as client:

        async def behind(number: int) -> object:
            return await client.update(BenchUpdate, number % ROWS, **patch(number))

        async def plain(number: int) -> object:
            async with pool.connection() as connection:  # leaving the block commits
                return await connection.execute(
                    "UPDATE bench_update SET name = %(name)s, score = %(score)s, updated_at = %(updated_at)s "
                    "WHERE id = %(id)s",
                    {**patch(number), "id": number % ROWS},
                )

        for name, write in (("write_behind", behind), ("update_commit", plain)):
            await offer(write, rate, 1.0)  # warm
            found = await offer(write, rate, seconds)
            say(f"{name}: p50 {found.p50 * 1e3:.2f} ms, p99 {found.p99 * 1e3:.2f} ms at {rate:,} writes/s offered")
            saturated = rate if quick else await saturation(write, rate)
            say(f"{name}: saturates at about {saturated:,} writes/s")
            result |= {f"{name}_p50_ms": round(found.p50 * 1e3, 2), f"{name}_p99_ms": round(found.p99 * 1e3, 2)}
            result[f"{name}_saturates_per_s"] = saturated
    await pool.close()
    return result


async def offer(write: Write, rate: int, seconds: float) -> Latency:
    """Offer `rate` writes per second for some seconds."""
    loop = asyncio.get_running_loop()
    took: list[float] = []

    async def one(number: int, due: float) -> None:
        await write(number)
        took.append(loop.time() - due)

    began = loop.time()
    tasks: list[asyncio.Task[None]] = []
    for number in range(int(rate * seconds)):
        due = began + number / rate
        if (wait := due - loop.time()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(one(number, due)))
    await asyncio.gather(*tasks)
    took.sort()
    return Latency(statistics.median(took), took[int(len(took) * 0.99)])


async def saturation(write: Write, start: int) -> int:
    """The highest offered load, in steps of a quarter, whose p99 stays bounded."""
    rate = start
    began = time.monotonic()
    while time.monotonic() - began < 60 and (await offer(write, rate, 2.0)).p99 < SATURATED_P99_S:
        rate = rate * 5 // 4
    return rate


if __name__ == "__main__":
    sys.exit(main())

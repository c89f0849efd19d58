"""The load: workers that read and write at random, and a probe that looks when a write is seen."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from writebehind.producer import AsyncClient
from writebehind.shared.declaration import declaration_of
from writebehind.shared.errors import WritebehindError

from .entities import Row
from .outcome import Op, Sample

PROBE_KEY = 0  # the load leaves it alone
BODY_CHARS = 100
AFTER_ERROR_S = 0.01  # a worker that is refused at once must not spin
PROBE_EVERY_S, TABLE_LOOK_S, PROBE_LONGEST_S = 0.1, 0.002, 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What every strategy gets. `reads`: the part of the calls that read; `keys` are equally likely."""

    seconds: float
    reads: float
    workers: int
    keys: int
    outage_s: float
    seed: int = 20130101


@dataclass
class Subject:
    """One strategy under load: one client writes, a second one reads."""

    cls: type[Row]
    writer: AsyncClient
    reader: AsyncClient
    plan: Plan
    stamps: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    acknowledged: dict[int, int] = field(default_factory=dict[int, int])  # key and its highest stamp

    async def write(self, key: int) -> int:
        """A write of everything but the key; gives its stamp."""
        stamp = next(self.stamps)
        await self.writer.update(self.cls, key, body=f"{stamp}".zfill(BODY_CHARS), stamp=stamp)
        self.acknowledged[key] = max(stamp, self.acknowledged.get(key, 0))
        return stamp

    async def read(self, key: int) -> bool:
        """A read by the second client. True: it is older than what was acknowledged before it began."""
        floor = self.acknowledged.get(key, 0)
        row = await self.reader.get(self.cls, key)
        return row is None or row.stamp < floor


@contextlib.asynccontextmanager
async def loaded(subject: Subject, *, apart: bool = False) -> AsyncIterator[list[Sample]]:
    """The load runs during the body, and adds its samples to the list.

    apart: each worker only reads or only writes, so that reads that wait for a server do not keep writes from coming.
    """
    samples: list[Sample] = []
    plan = subject.plan
    ops = _ops(plan) if apart else [None] * plan.workers
    started, stop = time.perf_counter(), asyncio.Event()
    workers = [
        asyncio.create_task(_work(subject, op, random.Random(plan.seed + number), samples, started, stop))
        for number, op in enumerate(ops)
    ]
    try:
        yield samples
    finally:
        stop.set()
        await asyncio.gather(*workers)


async def _work(
    subject: Subject,
    only: Op | None,
    chance: random.Random,
    samples: list[Sample],
    started: float,
    stop: asyncio.Event,
) -> None:
    while not stop.is_set():
        key = chance.randrange(1, subject.plan.keys + 1)
        op: Op = only or ("read" if chance.random() < subject.plan.reads else "write")
        began, old, error = time.perf_counter(), False, None
        try:
            if op == "read":
                old = await subject.read(key)
            else:
                await subject.write(key)
        except WritebehindError as raised:
            error = type(raised).__name__
        ended = time.perf_counter()
        samples.append(Sample(op, ended - started, (ended - began) * 1000, error, old))
        if error is not None:
            await asyncio.sleep(AFTER_ERROR_S)


def _ops(plan: Plan) -> list[Op]:
    """One each at least, shared out as the calls are."""
    readers = min(max(1, round(plan.workers * plan.reads)), max(1, plan.workers - 1))
    ops: list[Op] = ["read" for _ in range(readers)]
    return ops + ["write" for _ in range(max(1, plan.workers - readers))]


async def probe(subject: Subject, url: str, seconds: float) -> tuple[list[float], list[float]]:
    """Milliseconds from the acknowledgement of writes until the second client, and the table itself, show them."""
    declaration = declaration_of(subject.cls)
    query = sql.SQL("SELECT stamp FROM {} WHERE id = %s").format(sql.Identifier(declaration.table))
    seen: list[float] = []
    in_table: list[float] = []
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:

        async def client_shows(stamp: int) -> bool:
            row = await subject.reader.get(subject.cls, PROBE_KEY)
            return row is not None and row.stamp >= stamp

        async def table_shows(stamp: int) -> bool:
            row = await (await connection.execute(query, (PROBE_KEY,))).fetchone()
            return row is not None and row[0] >= stamp

        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends or not seen:
            stamp = await subject.write(PROBE_KEY)
            acknowledged = time.perf_counter()
            one, other = await asyncio.gather(
                _until(client_shows, stamp, acknowledged, 0.0), _until(table_shows, stamp, acknowledged, TABLE_LOOK_S)
            )
            seen.append(one)
            in_table.append(other)
            await asyncio.sleep(PROBE_EVERY_S)
    return seen, in_table


async def _until(shows: Callable[[int], Awaitable[bool]], stamp: int, since: float, pause_s: float) -> float:
    """Milliseconds from `since` until the look that showed it began; 0 when the first one did."""
    first = True
    while True:
        began = time.perf_counter()
        if await shows(stamp):
            return 0.0 if first else (began - since) * 1000
        if began - since > PROBE_LONGEST_S:
            raise TimeoutError
        first = False
        await asyncio.sleep(pause_s)

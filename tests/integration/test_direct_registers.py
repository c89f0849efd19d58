"""Write-through rows as registers (W9, W10): whoever reads, while calls are cancelled and servers are disturbed, sees
nothing older than what was acknowledged. The histories are recorded and judged by the fault harness's checker.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import psycopg
import pytest
import redis

from tests.faults.checkers_fresh import check_fresh
from tests.faults.histories import Op, Outcome, Read
from tests.integration.direct_world import Aside, Strict, Through, direct_world
from tests.integration.guarded import Guarded
from tests.integration.producer_world import World
from writebehind.producer import AsyncClient, DatabaseDown, NotApplied, Unknown

KEYS, SECONDS, TASKS = 4, 8.0, 3
QUICK = {"budget_s": 0.5, "breaker_open_s": 0.05}
Cls = type[Aside | Through | Strict]


class Recorder:
    """Calls of several clients, and what came of them."""

    def __init__(self, cls: Cls, seed: int) -> None:
        self.cls = cls
        self.random = random.Random(seed)
        self.ops: list[Op] = []
        self.reads: list[Read] = []
        self.numbers = itertools.count(1)
        self.stopped = False

    async def write(self, client: AsyncClient, process: str) -> None:
        number, key, began = next(self.numbers), self.random.randrange(KEYS), time.monotonic()
        outcome, version = Outcome.UNKNOWN, None  # also when it is cancelled
        try:
            receipt = await client.update(self.cls, key, name=f"v{number}", timeout_s=2.0)
            outcome, version = Outcome.OK, receipt.version
        except NotApplied:
            outcome = Outcome.FAIL
        except Unknown:
            pass
        finally:
            ended = time.monotonic() if outcome is Outcome.OK else None
            self.ops.append(Op(process, number, "write", key, {"name": f"v{number}"}, began, ended, outcome, version))

    async def read(self, client: AsyncClient, process: str) -> None:
        key, began = self.random.randrange(KEYS), time.monotonic()
        with suppress(DatabaseDown):
            found = await client.get(self.cls, key)
            assert found is not None
            self.reads.append(Read(process, key, {"name": found.name}, began, time.monotonic()))

    async def work(self, client: AsyncClient, process: str) -> None:
        """Reads and writes, some of which are cancelled half-way."""
        while not self.stopped:
            call = asyncio.ensure_future((self.read if self.random.random() < 0.6 else self.write)(client, process))
            if self.random.random() < 0.1:
                asyncio.get_running_loop().call_later(self.random.random() / 100, call.cancel)
            with suppress(asyncio.CancelledError):
                await call
            await asyncio.sleep(self.random.random() / 200)


async def recorded(here: World, cls: Cls, seed: int, disturb: Callable[[], Awaitable[None]]) -> Recorder:
    """A history of three clients."""
    recorder = Recorder(cls, seed)
    clients = [await AsyncClient.open(here.settings).start() for _ in range(3)]
    for key in range(KEYS):
        await clients[0].create(cls, key)
    works = [
        asyncio.create_task(recorder.work(client, f"p{number}"))
        for number, client in enumerate(clients)
        for _ in range(TASKS)
    ]
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        await asyncio.sleep(recorder.random.random())
        await disturb()
    recorder.stopped = True
    await asyncio.gather(*works)
    for client in clients:
        await client.close()
    return recorder


def check(recorder: Recorder, *, monotonic: bool) -> None:
    outcomes = Counter(op.outcome for op in recorder.ops)
    assert outcomes[Outcome.OK] > 20, outcomes
    assert len(recorder.reads) > 50
    assert check_fresh(recorder.cls.__name__, recorder.ops, recorder.reads, "name", monotonic=monotonic) == []


def end_backends(here: World) -> None:
    """As a failover does. Open writes are then unknown."""
    with psycopg.connect(here.corner.database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'writebehind-producer'"
        )


@pytest.mark.parametrize("seed", [1, 2])
async def test_write_through_rows_are_registers_although_servers_stall_and_calls_are_cancelled(
    breakable_stack: Guarded, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    with breakable_stack.corner() as corner, direct_world(corner, cache=QUICK) as here:
        kinds = itertools.cycle(["backends", "rest", "stall", "rest"])

        async def disturb() -> None:
            kind = next(kinds)
            if kind == "backends":
                await asyncio.to_thread(end_backends, here)
            elif kind == "stall":
                breakable_stack.valkey.pause()
                await asyncio.sleep(0.7)  # longer than the budget: writers are told no
                breakable_stack.valkey.resume()

        # It fails rather than write past a cache that cannot be told: no reader has to wait for the flusher.
        recorder = await recorded(here, Strict, seed, disturb)
        check(recorder, monotonic=True)
        assert "never retrieved" not in caplog.text  # a cancelled caller's call goes on, and its error is nobody's news
        assert any(op.outcome is not Outcome.OK for op in recorder.ops)


@pytest.mark.parametrize("cls", [Through, Strict])
async def test_a_cache_that_loses_everything_shows_nothing_older_than_what_was_acknowledged(
    breakable_stack: Guarded, cls: type[Through | Strict]
) -> None:
    with breakable_stack.corner() as corner, direct_world(corner) as here:
        with redis.Redis.from_url(here.corner.cache_url) as raw:

            async def disturb() -> None:
                for _ in range(10):
                    raw.flushall()
                    await asyncio.sleep(0.01)

            recorder = await recorded(here, cls, 3, disturb)
        # Two readers may disagree while a writer whose intent was lost has committed and is not acknowledged.
        check(recorder, monotonic=False)

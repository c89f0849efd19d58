"""Readers and writers of direct entities stopped half-way: what others see meanwhile, and what stays in the cache."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.integration.direct_gates import STEPS, Gate, at
from tests.integration.direct_world import Aside, Through, direct_world
from tests.integration.producer_world import World
from writebehind.embedded import Isolation
from writebehind.producer import AsyncClient, NotApplied, Unknown
from writebehind.shared import bookkeeping

BOTH = pytest.mark.parametrize("cls", [Aside, Through])
ROOT = Path(__file__).parents[2]
KILLED = """
import asyncio, os, signal, sys
from tests.integration import direct_world
from tests.integration.direct_gates import at
from writebehind.producer import AsyncClient

async def die():
    os.kill(os.getpid(), signal.SIGKILL)

async def main(cls, step):
    async with AsyncClient.open() as client:
        await client.get(cls, 7)  # connected
        at(client, step, die)
        await client.update(cls, 1, name="new")

asyncio.run(main(getattr(direct_world, sys.argv[1]), sys.argv[2]))
"""


@pytest.fixture
def here(writebehind_isolated: Isolation) -> Iterator[World]:
    with direct_world(writebehind_isolated) as made:
        yield made


def killed_at(here: World, cls: type[Aside | Through], step: str) -> None:
    """A process of its own that writes "new" and kills itself at a step."""
    env = here.env_of("producer", WRITEBEHIND_CACHE__BUDGET_S="5")
    command = [sys.executable, "-c", KILLED, cls.__name__, step]
    assert subprocess.run(command, cwd=ROOT, env=env, timeout=60, check=False).returncode == -signal.SIGKILL


async def name(client: AsyncClient, cls: type[Aside | Through], key: int = 1) -> str | None:
    found = await client.get(cls, key)
    assert found is not None
    return found.name


@BOTH
async def test_a_reader_that_is_slow_between_row_and_fill_puts_nothing_old_back(
    here: World, cls: type[Aside | Through]
) -> None:
    async with AsyncClient.open(here.settings) as slow, AsyncClient.open(here.settings) as writer:
        await writer.create(cls, 1, name="old")
        await writer.invalidate(cls, 1)
        gate = Gate()
        at(slow, "before the fill", gate.pass_)
        reading = asyncio.create_task(name(slow, cls))
        await gate.reached.wait()
        await writer.update(cls, 1, name="new")
        gate.opened.set()
        assert await reading == "old"  # it began before the write
        for _ in range(2):
            assert await name(writer, cls) == "new"
            assert await name(slow, cls) == "new"


@BOTH
@pytest.mark.parametrize("step", ["before the row", "after the row"])
async def test_of_two_racing_writers_the_later_row_is_what_everybody_reads(
    here: World, cls: type[Aside | Through], step: str
) -> None:
    async with AsyncClient.open(here.settings) as first, AsyncClient.open(here.settings) as second:
        await first.create(cls, 1, name="old")
        await name(first, cls)
        gate = Gate()
        at(first, step, gate.pass_)
        writing = asyncio.create_task(first.update(cls, 1, name="first"))
        await gate.reached.wait()
        await second.update(cls, 1, name="second")
        assert await name(second, cls) == "second"
        gate.opened.set()
        await writing
        winner = "first" if step == "before the row" else "second"
        for client in (first, second):
            assert await name(client, cls) == winner
        assert here.execute(f"SELECT name FROM {cls.__place__.table}") == [(winner,)]


@BOTH
async def test_a_reader_that_meets_a_writer_reads_the_row_and_does_not_fill(
    here: World, cls: type[Aside | Through]
) -> None:
    async with AsyncClient.open(here.settings) as writer, AsyncClient.open(here.settings) as reader:
        await writer.create(cls, 1, name="old")
        gate = Gate()
        at(writer, "after the row", gate.pass_)
        writing = asyncio.create_task(writer.update(cls, 1, name="new"))
        await gate.reached.wait()
        assert await name(reader, cls) == "new"  # committed, though not acknowledged
        kept = bookkeeping.of(here.entry(cls, "1"))
        assert (kept.complete, kept.intents, kept.lease) == (False, 1, None)
        gate.opened.set()
        await writing


@BOTH
@pytest.mark.parametrize("step", STEPS)
async def test_a_writer_killed_at_any_point_leaves_no_old_value(
    here: World, cls: type[Aside | Through], step: str
) -> None:
    async with AsyncClient.open(here.settings) as reader:
        await reader.create(cls, 1, name="old")
        await name(reader, cls)
        await asyncio.to_thread(killed_at, here, cls, step)
        [(row,)] = here.execute(f"SELECT name FROM {cls.__place__.table}")
        assert row == ("old" if step in ("before the intent", "before the row") else "new")
        for _ in range(2):
            assert await name(reader, cls) == row
        open_ = step in ("before the row", "after the row")
        assert bookkeeping.of(here.entry(cls, "1")).intents == (1 if open_ else 0)


@BOTH
async def test_a_write_without_an_answer_is_unknown_and_nobody_is_served_a_guess(
    here: World, cls: type[Aside | Through]
) -> None:
    async with AsyncClient.open(here.settings) as client, AsyncClient.open(here.settings) as other:
        await client.create(cls, 1, name="old")
        await name(client, cls)
        async with other.transaction() as blocker:
            await blocker.execute(f"SELECT 1 FROM {cls.__place__.table} FOR UPDATE".encode())
            with pytest.raises(Unknown):
                await client.update(cls, 1, name="new", timeout_s=0.5)
            assert bookkeeping.of(here.entry(cls, "1")).intents == 1
            assert await name(client, cls) == "old"
        for client_ in (client, other):
            [(before,)] = here.execute(f"SELECT name FROM {cls.__place__.table}")
            read = await name(client_, cls)
            [(after,)] = here.execute(f"SELECT name FROM {cls.__place__.table}")
            assert read in (before, after)  # the server may find out late that nobody waits


@BOTH
async def test_your_own_transaction_shows_in_the_cache_after_its_commit_only(
    here: World, cls: type[Aside | Through]
) -> None:
    async with AsyncClient.open(here.settings) as client, AsyncClient.open(here.settings) as other:
        await client.create(cls, 1, name="old")
        await name(client, cls)
        async with client.transaction() as connection:
            await client.update(cls, 1, name="new", connection=connection)
            await client.create(cls, 2, name="two", connection=connection)
            await connection.execute(f"UPDATE {cls.__place__.table} SET name = 'newer' WHERE id = 1".encode())
            assert await name(other, cls) == "old"
            assert await other.get(cls, 2) is None
        assert await name(other, cls) == "newer"
        assert await name(other, cls, 2) == "two"


@BOTH
async def test_a_transaction_that_is_rolled_back_leaves_everything_as_it_was(
    here: World, cls: type[Aside | Through]
) -> None:
    async with AsyncClient.open(here.settings) as client:
        await client.create(cls, 1, name="old")

        async def change_my_mind() -> None:
            async with client.transaction() as connection:
                await client.update(cls, 1, name="new", connection=connection)
                await client.delete(cls, 1, connection=connection)
                raise RuntimeError("changed my mind")

        with pytest.raises(RuntimeError, match="changed my mind"):
            await change_my_mind()
        assert bookkeeping.of(here.entry(cls, "1")).intents == 0
        assert await name(client, cls) == "old"


@BOTH
async def test_a_swallowed_error_in_a_transaction_does_not_pass_for_a_commit(
    here: World, cls: type[Aside | Through]
) -> None:
    async with AsyncClient.open(here.settings) as client:
        await client.create(cls, 1, name="old")

        async def swallow() -> None:
            async with client.transaction() as connection:
                await client.update(cls, 1, name="new", connection=connection)
                with pytest.raises(psycopg.errors.UndefinedTable):
                    await connection.execute("SELECT * FROM no_such_table")

        with pytest.raises(NotApplied, match="rolled back"):
            await swallow()
        assert await name(client, cls) == "old"


@BOTH
async def test_a_connection_of_your_own_tells_when_it_is_committed(here: World, cls: type[Aside | Through]) -> None:
    async with AsyncClient.open(here.settings) as client:
        await client.create(cls, 1, name="old")
        pool = await client._rows.pool()
        async with pool.connection() as connection:
            await connection.execute("BEGIN")
            await client.update(cls, 1, name="new", connection=connection)
            assert await name(client, cls) == "old"
            await connection.execute("COMMIT")
            assert await name(client, cls) == "new"  # its intent is still there: read from the row
            await client.committed(connection)
            assert bookkeeping.of(here.entry(cls, "1")).intents == 0
            assert await name(client, cls) == "new"
            await connection.execute("BEGIN")
            await client.update(cls, 1, name="never", connection=connection)
            await connection.execute("ROLLBACK")
            await client.rolled_back(connection)
        assert await name(client, cls) == "new"


@BOTH
async def test_a_storm_of_cancelled_calls_leaves_cache_and_rows_alike(here: World, cls: type[Aside | Through]) -> None:
    chance = random.Random(5)
    async with AsyncClient.open(here.settings) as client:
        for key in range(5):
            await client.create(cls, key, name="0")
        for _ in range(20):
            calls = [
                asyncio.create_task(client.get(cls, key) if chance.random() < 0.5 else client.add(cls, key, balance=1))
                for key in [chance.randrange(5) for _ in range(20)]
            ]
            for call in calls:
                if chance.random() < 0.6:
                    call.cancel()
                elif chance.random() < 0.5:
                    asyncio.get_running_loop().call_later(chance.random() / 200, call.cancel)
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert all(not isinstance(r, Exception) for r in results), results
    async with AsyncClient.open(here.settings) as client:
        for key in range(5):
            kept = here.entry(cls, str(key))
            assert bookkeeping.of(kept).intents == 0
            [(balance,)] = here.execute(f"SELECT balance FROM {cls.__place__.table} WHERE id = {key}")
            found = await client.get(cls, key)
            assert found is not None
            assert found.balance == balance

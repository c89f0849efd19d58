"""W11: writes are refused until a permit is granted, and their letters replayed: twice, side by side, or killed.

Meanwhile newer writes of the same keys land, and flushers run.
"""

from __future__ import annotations

import asyncio
import os
from decimal import Decimal
from typing import Final

import psycopg

from tests.faults.driver import Driver
from tests.faults.entities import Appeal
from tests.faults.histories import Outcome
from tests.faults.replays import REPLAY, Kill, Replayed, replay
from tests.faults.workloads.ledger import Ledger
from writebehind.producer import load_settings

TASKS: Final = 4
REFUSED: Final = 0.3  # share of the writes that name a permit nobody has granted yet
EVERY_CALLS: Final = 100  # a permit is granted, and letters are replayed, about once in so many writes
KILLED: Final = 0.4  # share of the replays
SIDE_BY_SIDE: Final = 0.3
GRANT_TIMEOUT_S: Final = 5
#: What is a write of an appeal; the history holds replays too.
WRITES: Final = ("appeal", "appeal too early")


async def appeals(driver: Driver) -> None:
    """Permits are numbered; those up to `granted` are there."""
    granted = 0
    await _grant(driver, granted)
    ledger = Ledger(driver.index, driver.random)

    async def work() -> None:
        while await driver.pause(TASKS):
            early = driver.random.random() < REFUSED
            key, slot = ledger.take()
            label = driver.value()
            permit = granted + 1 if early else driver.random.randint(max(0, granted - 3), granted)
            patch = {"label": label, "permit": permit, "hits": 1, "ledger": Decimal(8**slot)}
            kind = WRITES[1] if early else WRITES[0]
            await driver.update(kind, Appeal, key, patch, noted={"label": label, "permit": permit, "slot": slot})

    async def judge() -> None:
        nonlocal granted
        while await driver.pause(weight=EVERY_CALLS):
            if not await _grant(driver, granted + 1):
                continue
            granted += 1
            if driver.random.random() < SIDE_BY_SIDE:
                await asyncio.gather(_replay(driver), _replay(driver))
            else:
                await _replay(driver)
                await _replay(driver)

    await asyncio.gather(judge(), *[work() for _ in range(TASKS)])


async def _grant(driver: Driver, permit: int) -> bool:
    """Not a write of ours: another service's table. False when the database is not there."""
    url = load_settings().database.url.get_secret_value()
    statement = "INSERT INTO fault_permits VALUES (%s) ON CONFLICT DO NOTHING"

    def insert() -> None:
        with psycopg.connect(url, autocommit=True, connect_timeout=GRANT_TIMEOUT_S) as connection:
            connection.execute(statement, (permit,))

    try:
        await asyncio.wait_for(asyncio.to_thread(insert), GRANT_TIMEOUT_S)
    except (psycopg.Error, TimeoutError):
        return False
    return True


async def _replay(driver: Driver) -> None:
    """One replay: it ends well, with letters that were refused again, without a server, or killed."""
    chance = driver.random
    kill = Kill(chance.randrange(1, 12), chance.uniform(2, 12)) if chance.random() < KILLED else None
    number = driver.history.invoke(REPLAY, [(0, {})])
    done: Replayed = await asyncio.to_thread(replay, dict(os.environ), kill)
    outcome = {0: Outcome.OK, 1: Outcome.OK, 2: Outcome.FAIL}.get(done.code, Outcome.UNKNOWN)
    driver.history.end(number, [(outcome, None)], code=done.code, letters=done.letters)
    if outcome is Outcome.UNKNOWN and not (done.code < 0 and kill is not None):
        driver.history.unexpected(f"letters replay ended with {done.code}: {done.said}")

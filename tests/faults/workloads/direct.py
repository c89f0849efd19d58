"""W9 and W10: rows that services write themselves, with a cache in front of them.

Every process writes and reads the registers; each increment has a digit in a ledger; and rows come and go, each of
which one task writes. After an unknown outcome it takes another row: the call may be carried out after a later one.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Final

from tests.faults.driver import Driver
from tests.faults.entities import REGISTERS, Aside, Through
from tests.faults.histories import Outcome
from tests.faults.workloads.ledger import Ledger

Direct = type[Aside] | type[Through]

TASKS: Final = 3
READS_PER_WRITE: Final = 3
#: Rows that come and go: those of a process begin at COMERS + its index times COMERS_EACH.
COMERS: Final = 10**18
COMERS_EACH: Final = 10**6
FIRST_COMERS: Final = (1, 2)  # indexes of the processes that are there from the start


async def aside(driver: Driver) -> None:
    """W9."""
    await _direct(driver, Aside)


async def through(driver: Driver) -> None:
    """W10."""
    await _direct(driver, Through)


async def _direct(driver: Driver, entity: Direct) -> None:
    works = [_registers, _reads, _increments, *[_comers] * TASKS]
    await asyncio.gather(*[work(driver, entity, task) for task, work in enumerate(works)])


async def _registers(driver: Driver, entity: Direct, _: int) -> None:
    while await driver.pause(weight=4):
        key = _register(driver)
        if await driver.update("write", entity, key, {"label": driver.value()}) is Outcome.OK:
            await driver.read(entity, key, "label")


def _register(driver: Driver) -> int:
    """The lowest one half of the time, so that writers of one row meet."""
    return int(REGISTERS * driver.random.random() ** 4)


async def _reads(driver: Driver, entity: Direct, _: int) -> None:
    """Also rows of another process; one that was killed leaves rows of which only the first are looked at."""
    while await driver.pause(weight=1 / READS_PER_WRITE):
        key = _register(driver)
        if driver.random.random() < 0.5:
            task = driver.random.randrange(TASKS)
            key = COMERS + driver.random.choice(FIRST_COMERS) * COMERS_EACH + task
        await driver.read(entity, key, "label")


async def _increments(driver: Driver, entity: Direct, _: int) -> None:
    ledger = Ledger(driver.index, driver.random)
    made = set[int]()
    while await driver.pause(weight=4):
        key, slot = ledger.take()
        if key not in made and await driver.create("make", entity, key, {}) is Outcome.OK:
            made.add(key)
        if key in made:
            await driver.add("increment", entity, key, {"hits": 1, "ledger": Decimal(8**slot)}, noted={"slot": slot})
        if driver.random.random() < 0.3:
            await driver.read(entity, key, "label")


async def _comers(driver: Driver, entity: Direct, task: int) -> None:
    key = COMERS + driver.index * COMERS_EACH + task % TASKS
    there = False
    while await driver.pause(TASKS, weight=4):
        gone = there and driver.random.random() < 0.3
        if gone:
            outcome = await driver.delete(entity, key)
        elif there:
            outcome = await driver.update("put", entity, key, {"label": driver.value(), "visits": 1})
        else:
            outcome = await driver.create("create", entity, key, {"label": driver.value(), "visits": 1})
        if outcome is Outcome.OK:
            there = not gone
            await driver.read(entity, key, "label")
        elif outcome is Outcome.UNKNOWN:
            key, there = key + TASKS, False

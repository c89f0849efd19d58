"""Workloads over few keys, written again and again: registers, counters, transfers, reads of own writes."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Final

from tests.faults.driver import Driver
from tests.faults.entities import Account, Counter, Register, Session
from tests.faults.histories import Outcome
from tests.faults.workloads.ledger import Ledger

REGISTERS: Final = 30
ACCOUNTS: Final = 20
SESSION_WRITES: Final = 200  # then another key
TASKS: Final = 4


async def register(driver: Driver) -> None:
    """W2: every process writes every key, half of them in calls of several keys."""

    async def work() -> None:
        while await driver.pause(TASKS, weight=3):
            if driver.random.random() < 0.5:
                await driver.update("write", Register, driver.random.randrange(REGISTERS), {"value": driver.value()})
                continue
            keys = driver.random.sample(range(REGISTERS), 5)
            await driver.update_many("write many", Register, [(key, {"value": driver.value()}) for key in keys])

    await asyncio.gather(*[work() for _ in range(TASKS)])


async def counter(driver: Driver) -> None:
    """W3: each increment adds one to the hits and sets a digit of its own in the ledger."""
    ledger = Ledger(driver.index, driver.random)

    async def work() -> None:
        while await driver.pause(TASKS):
            key, slot = ledger.take()
            deltas = {"hits": 1, "ledger": Decimal(8**slot)}
            await driver.add("increment", Counter, key, deltas, noted={"slot": slot})

    await asyncio.gather(*[work() for _ in range(TASKS)])


async def bank(driver: Driver) -> None:
    """W4: both sides of a transfer are deltas of one write."""

    async def work() -> None:
        while await driver.pause(TASKS):
            amount = driver.random.randrange(1, 1000)
            deltas = {"payer": -amount, "payee": amount}
            key = driver.random.randrange(ACCOUNTS)
            await driver.add("transfer", Account, key, deltas, noted={"amount": amount})

    await asyncio.gather(*[work() for _ in range(TASKS)])


async def coherence(driver: Driver) -> None:
    """W8: each task writes a key of its own and reads it back, at once and a moment later."""

    async def work(task: int) -> None:
        key = task
        writes = 0
        while await driver.pause(TASKS):
            outcome = await driver.update("step", Session, key, {"step": driver.value()})
            if outcome is Outcome.OK:
                await driver.read(Session, key, "step")
                await asyncio.sleep(driver.random.random() * 0.2)
                await driver.read(Session, key, "step")
            writes += 1
            if writes % SESSION_WRITES == 0:
                key += TASKS

    await asyncio.gather(*[work(task) for task in range(TASKS)])

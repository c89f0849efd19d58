"""Workloads over many rows: unique ones, rows patched by two processes, rows that come and go or are refused."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.faults.driver import Driver
from tests.faults.entities import Graded, Profile, Unit, Visitor
from tests.faults.histories import Values

SET_CHUNK: Final = 500
PROFILES: Final = 200
VISITOR_KEYS: Final = 60
GRADED_KEYS: Final = 100
TASKS: Final = 4


async def unique_rows(driver: Driver) -> None:
    """W1: keys are written once, by the hundred and alone. `rate` counts rows."""
    keys = iter(range(driver.index * 10**9, (driver.index + 1) * 10**9))

    def row() -> tuple[int, Values]:
        key = next(keys)
        return key, {"body": f"{driver.index}:{key}:{driver.random.randrange(10**6)}"}

    async def many() -> None:
        while await driver.pause(weight=SET_CHUNK):
            await driver.update_many("set many", Unit, [row() for _ in range(SET_CHUNK)])

    async def single() -> None:
        while await driver.pause(weight=SET_CHUNK / 10):
            key, body = row()
            await driver.update("set", Unit, key, body)

    await asyncio.gather(many(), many(), single())


async def patches(driver: Driver) -> None:
    """W5: each process owns two fields of the same rows, and writes one or both of them."""
    fields = ("a", "b") if driver.index == 0 else ("c", "d")

    async def work(task: int) -> None:
        while await driver.pause(TASKS):
            # A task has keys of its own, so that a field has one writer and its last value is known.
            key = driver.random.randrange(PROFILES // TASKS) * TASKS + task
            chosen = driver.random.choice([fields, fields[:1], fields[1:]])
            await driver.update("patch", Profile, key, {field: driver.value() for field in chosen})

    await asyncio.gather(*[work(task) for task in range(TASKS)])


async def churn(driver: Driver) -> None:
    """W6: put, delete, put of a key at once, so that they share a batch, or with pauses, so that they do not."""

    async def work(task: int) -> None:
        while await driver.pause(TASKS, weight=3):
            key = driver.random.randrange(VISITOR_KEYS // TASKS) * TASKS + task
            spread = driver.random.random() < 0.3
            for delete in driver.random.choice([(False, True, False), (False, False, True), (True, False), (False,)]):
                if delete:
                    await driver.delete(Visitor, key)
                else:
                    label = driver.value()
                    await driver.update("put", Visitor, key, {"label": label, "visits": 1}, noted={"label": label})
                if spread:
                    await asyncio.sleep(driver.random.random() * 0.5)

    await asyncio.gather(*[work(task) for task in range(TASKS)])


async def poison(driver: Driver) -> None:
    """W7: a share of the marks is below zero, which the table refuses.

    Half of them are of keys of their own; of another key the next mark is right again, and may be folded over it.
    """

    async def work(task: int) -> None:
        while await driver.pause(TASKS):
            key = driver.random.randrange(GRADED_KEYS // TASKS) * TASKS + task
            value = driver.value() + 1
            bad = driver.random.random() < driver.poison
            if bad and driver.random.random() < 0.5:
                key = GRADED_KEYS + value
            await driver.update("poison" if bad else "grade", Graded, key, {"mark": -value if bad else value})

    await asyncio.gather(*[work(task) for task in range(TASKS)])

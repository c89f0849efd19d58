"""Who waits for the writes of one call: until all have their answer, some need their base, or the time is up."""

from __future__ import annotations

import asyncio
import math
import threading
import time

import pytest

from writebehind.producer.backends import aio, aio_group, threads, threads_group

BOUND_S = 60.0


def soon(seconds: float) -> float:
    return time.monotonic() + seconds


def answered(group: aio_group.Group | threads_group.Group) -> bool:
    return group.answered


async def waits(group: aio_group.Group, until: float) -> asyncio.Task[None]:
    task = asyncio.create_task(group.wait(until))
    await asyncio.sleep(0)
    return task


async def test_all_who_wait_are_woken_by_the_last_answer() -> None:
    runtime = aio.Runtime()
    group = aio_group.Group(runtime, 2)
    tasks = [await waits(group, soon(BOUND_S)) for _ in range(2)]
    group.one_done()
    await asyncio.sleep(0)
    assert not answered(group)
    assert not any(task.done() for task in tasks)
    group.one_done()
    await asyncio.wait_for(asyncio.gather(*tasks), BOUND_S)
    assert answered(group)
    await group.wait(soon(BOUND_S))  # at once
    assert not any(runtime.alarms._steps.values())


async def test_time_is_up_for_each_by_his_own_clock() -> None:
    group = aio_group.Group(aio.Runtime(), 1)
    began = time.monotonic()
    late, early = await waits(group, began + BOUND_S), await waits(group, began + 0.2)
    await early
    assert time.monotonic() - began >= 0.2
    assert not answered(group)
    assert not late.done()
    passed = await waits(group, began - 1.0)  # one that is over already
    await passed
    group.one_done()
    await late


async def test_whoever_has_to_load_a_base_is_woken_for_it() -> None:
    group = aio_group.Group(aio.Runtime(), 2)
    task = await waits(group, math.inf)
    group.stall()
    await asyncio.wait_for(task, BOUND_S)
    assert (group.stalled, answered(group)) == (True, False)
    group.stalled = False
    task = await waits(group, math.inf)
    group.one_done()
    group.one_done()
    await asyncio.wait_for(task, BOUND_S)


async def test_a_caller_who_is_cancelled_leaves_no_alarm_and_wakes_nobody() -> None:
    runtime = aio.Runtime()
    group = aio_group.Group(runtime, 1)
    gone, stays = await waits(group, soon(BOUND_S)), await waits(group, soon(BOUND_S))
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert not stays.done()
    assert sum(len(step) for step in runtime.alarms._steps.values()) == 1
    group.one_done()
    await asyncio.wait_for(stays, BOUND_S)


async def test_many_alarms_share_a_timer_and_none_is_left_when_all_have_rung() -> None:
    runtime = aio.Runtime()
    groups = [aio_group.Group(runtime, 1) for _ in range(100)]
    began = time.monotonic()
    tasks = [await waits(group, began + 0.1 + number / 1000) for number, group in enumerate(groups)]
    assert len(runtime.alarms._steps) <= 4
    await asyncio.gather(*tasks)
    assert time.monotonic() - began >= 0.199
    assert (runtime.alarms._steps, runtime.alarms._timer) == ({}, None)


def test_a_thread_waits_for_the_same() -> None:
    runtime = threads.Runtime()
    group = threads_group.Group(runtime, 1)
    began = time.monotonic()
    group.wait(began + 0.05)
    assert time.monotonic() - began >= 0.05
    assert not answered(group)
    group.stall()
    group.wait(math.inf)  # at once
    group.stalled = False
    timer = threading.Timer(0.05, group.one_done)
    timer.start()
    group.wait(math.inf)
    assert answered(group)
    timer.join()

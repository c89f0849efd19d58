"""The combiners: callers who come at the same time share calls, and each gets its own answer whatever the others do."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from writebehind.producer.backends import aio, threads

BOUND_S = 60.0


class Job:
    """An item whose answer is its own number."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.answer: int | None = None


class Gate:
    """A run that says when it begins, and goes on when it is let."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.begun = asyncio.Semaphore(0)
        self.go = asyncio.Semaphore(0)

    async def __call__(self, jobs: Sequence[Job]) -> None:
        self.groups.append([job.number for job in jobs])
        self.begun.release()
        await self.go.acquire()
        for job in jobs:
            if job.number < 0:
                raise ValueError(job.number)
            job.answer = job.number


async def submitted(combiner: aio.Combiner[Job], *numbers: int) -> list[int | None]:
    jobs = [Job(number) for number in numbers]
    await combiner.submit(jobs)
    return [job.answer for job in jobs]


async def started(tasks: int) -> None:
    """Let as many tasks as were just made come to their first wait."""
    for _ in range(tasks):
        await asyncio.sleep(0)


async def test_what_arrives_while_a_call_is_under_way_goes_into_the_next() -> None:
    gate = Gate()
    combiner = aio.Combiner(gate, 100)
    tasks = [asyncio.create_task(submitted(combiner, 0))]
    await gate.begun.acquire()
    tasks += [asyncio.create_task(submitted(combiner, number, number + 10)) for number in (1, 2, 3)]
    await started(3)
    gate.go.release()
    await gate.begun.acquire()
    gate.go.release()
    assert await asyncio.gather(*tasks) == [[0], [1, 11], [2, 12], [3, 13]]
    assert gate.groups == [[0], [1, 11, 2, 12, 3, 13]]


async def test_a_group_is_bounded_and_no_request_is_split() -> None:
    gate = Gate()
    combiner = aio.Combiner(gate, 4)
    tasks = [asyncio.create_task(submitted(combiner, 0))]
    await gate.begun.acquire()
    sizes = [3, 2, 1, 9]  # 3 | 2 + 1 | 9, larger than the bound, alone
    tasks += [asyncio.create_task(submitted(combiner, *range(size))) for size in sizes]
    await started(len(sizes))
    for _ in range(4):
        gate.go.release()
    await asyncio.gather(*tasks)
    assert [len(group) for group in gate.groups] == [1, 3, 3, 9]


async def test_an_error_reaches_its_own_group_only() -> None:
    gate = Gate()
    combiner = aio.Combiner(gate, 100)
    first = asyncio.create_task(submitted(combiner, 0))
    await gate.begun.acquire()
    bad = [asyncio.create_task(submitted(combiner, number)) for number in (1, -1)]
    await started(2)
    gate.go.release()
    await gate.begun.acquire()  # the bad group is under way
    later = asyncio.create_task(submitted(combiner, 5))
    await started(1)
    gate.go.release()
    gate.go.release()
    assert await first == [0]
    assert await later == [5]
    for task in bad:
        with pytest.raises(ValueError, match="-1"):
            await task
    gate.go.release()
    assert await submitted(combiner, 6) == [6]


async def test_a_cancelled_caller_takes_nobody_with_it() -> None:
    gate = Gate()
    combiner = aio.Combiner(gate, 100)
    first = asyncio.create_task(submitted(combiner, 0))  # its submit started the call
    await gate.begun.acquire()
    others = [asyncio.create_task(submitted(combiner, number)) for number in (1, 2, 3)]
    await started(3)
    first.cancel()  # under way
    others[1].cancel()  # waits
    gate.go.release()
    gate.go.release()
    done = await asyncio.gather(first, *others, return_exceptions=True)
    assert [type(answer) for answer in done] == [asyncio.CancelledError, list, asyncio.CancelledError, list]
    assert (done[1], done[3]) == ([1], [3])
    gate.go.release()
    assert await submitted(combiner, 7) == [7]


async def test_an_error_of_a_group_whose_callers_are_gone_disturbs_nobody() -> None:
    gate = Gate()
    combiner = aio.Combiner(gate, 100)
    gone = asyncio.create_task(submitted(combiner, -1))
    await gate.begun.acquire()
    gone.cancel()
    after = asyncio.create_task(submitted(combiner, 1))
    await started(1)
    gate.go.release()
    gate.go.release()
    assert await after == [1]


async def test_what_is_added_shares_calls_and_its_errors_are_told() -> None:
    gate = Gate()
    told: list[tuple[list[int], str]] = []
    combiner = aio.Combiner(
        gate, 100, failed=lambda jobs, error: told.append(([job.number for job in jobs], str(error)))
    )
    good, bad = Job(1), [Job(2), Job(-3)]
    combiner.add([good])
    await gate.begun.acquire()
    combiner.add(bad)
    waiting = asyncio.create_task(submitted(combiner, 4))
    await started(1)
    gate.go.release()
    gate.go.release()
    with pytest.raises(ValueError, match="-3"):
        await waiting
    assert good.answer == 1
    assert gate.groups == [[1], [2, -3, 4]]
    assert told == [([2, -3], "-3")]


class Held:
    """The threads' gate."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.leaders: list[int] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def __call__(self, jobs: Sequence[Job]) -> None:
        self.groups.append(sorted(job.number for job in jobs))
        self.leaders.append(threading.get_ident())
        self.begun.release()
        assert self.go.acquire(timeout=BOUND_S)
        for job in jobs:
            if job.number < 0:
                raise ValueError(job.number)
            job.answer = job.number


class Caller(threading.Thread):
    """Submits one job and keeps what came of it."""

    def __init__(self, combiner: threads.Combiner[Job], number: int) -> None:
        super().__init__(daemon=True)
        self.combiner, self.job = combiner, Job(number)
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.combiner.submit([self.job])
        except ValueError as error:
            self.error = error

    def result(self) -> int | None:
        self.join(BOUND_S)
        assert not self.is_alive()
        return self.job.answer


def queued(combiner: threads.Combiner[Job], count: int) -> None:
    """Return once that many requests wait."""
    deadline = time.monotonic() + BOUND_S
    with combiner._changed:
        while len(combiner._waiting) < count:
            combiner._changed.wait(0.01)  # nobody is told of an arrival
            assert time.monotonic() < deadline


def test_threads_share_calls_and_the_lead_goes_from_one_to_another() -> None:
    held = Held()
    combiner = threads.Combiner(held, 2)
    first = Caller(combiner, 0)
    assert held.begun.acquire(timeout=BOUND_S)
    others = [Caller(combiner, number) for number in range(1, 6)]
    queued(combiner, 5)
    for _ in range(4):
        held.go.release()
    assert [caller.result() for caller in [first, *others]] == [0, 1, 2, 3, 4, 5]
    assert [len(group) for group in held.groups] == [1, 2, 2, 1]
    assert first.ident == held.leaders[0]
    assert first.ident not in held.leaders[1:]  # whose own request is done leads no more


def test_an_error_reaches_the_threads_of_its_group_only() -> None:
    held = Held()
    combiner = threads.Combiner(held, 100)
    first = Caller(combiner, 0)
    assert held.begun.acquire(timeout=BOUND_S)
    bad = [Caller(combiner, number) for number in (1, -1)]
    queued(combiner, 2)
    held.go.release()
    assert held.begun.acquire(timeout=BOUND_S)
    later = Caller(combiner, 5)
    queued(combiner, 1)
    held.go.release()
    held.go.release()
    assert (first.result(), later.result()) == (0, 5)
    for caller in bad:
        caller.result()
        assert str(caller.error) == "-1"
    assert (first.error, later.error) == (None, None)


def test_many_threads_each_get_their_own_answer() -> None:
    def run(jobs: Sequence[Job]) -> None:
        for job in jobs:
            job.answer = job.number

    combiner = threads.Combiner(run, 7)
    callers = [Caller(combiner, number) for number in range(200)]
    assert [caller.result() for caller in callers] == list(range(200))

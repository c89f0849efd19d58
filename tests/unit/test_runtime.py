"""A call that is not cancelled with its caller, on the asyncio side."""

from __future__ import annotations

import asyncio

import pytest

from writebehind.producer.backends.aio import Runtime


async def test_a_call_runs_until_its_first_wait_at_once_and_then_to_its_end() -> None:
    runtime, steps, go = Runtime(), [], asyncio.Event()

    async def call(name: str) -> None:
        steps.append(f"{name} begins")
        await go.wait()
        await asyncio.sleep(0)
        steps.append(f"{name} ends")

    caller = asyncio.ensure_future(runtime.to_the_end(call, "it"))
    await asyncio.sleep(0)
    assert steps == ["it begins"]
    go.set()
    await caller
    assert steps == ["it begins", "it ends"]


async def test_a_call_that_need_not_wait_is_over_when_it_returns() -> None:
    runtime, steps = Runtime(), []

    async def call() -> None:
        steps.append("called")

    asyncio.get_running_loop().call_soon(steps.append, "a round later")
    await runtime.to_the_end(call)
    assert steps == ["called"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_cancelled_caller_leaves_the_call_to_its_end() -> None:
    runtime, steps, go = Runtime(), [], asyncio.Event()

    async def call() -> None:
        await go.wait()
        await asyncio.sleep(0)
        steps.append("ended")

    caller = asyncio.ensure_future(runtime.to_the_end(call))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert steps == []
    go.set()
    await runtime.join(5)
    assert steps == ["ended"]


@pytest.mark.parametrize("waits", [0, 1, 2])
async def test_what_a_call_raises_its_caller_raises(waits: int) -> None:
    runtime = Runtime()

    async def call() -> None:
        for _ in range(waits):
            await asyncio.sleep(0)
        raise LookupError("it")

    with pytest.raises(LookupError, match="it"):
        await runtime.to_the_end(call)


async def test_what_a_call_raises_after_its_caller_was_cancelled_is_nobodys(caplog: pytest.LogCaptureFixture) -> None:
    runtime, go = Runtime(), asyncio.Event()

    async def call() -> None:
        await go.wait()
        raise LookupError("it")

    caller = asyncio.ensure_future(runtime.to_the_end(call))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    go.set()
    await runtime.join(5)
    assert not caplog.records  # nor does asyncio complain of an exception that nobody fetched


async def test_a_call_sees_what_fails_that_it_waits_for() -> None:
    runtime, failing = Runtime(), asyncio.get_running_loop().create_future()
    seen: list[BaseException] = []

    async def call() -> None:
        try:
            await failing
        except LookupError as error:
            seen.append(error)

    caller = asyncio.ensure_future(runtime.to_the_end(call))
    await asyncio.sleep(0)
    failing.set_exception(LookupError("it"))
    await caller
    assert len(seen) == 1


@pytest.mark.parametrize("rounds", [1, 2, 3])
async def test_a_call_that_is_cancelled_itself_leaves_no_caller_waiting(rounds: int) -> None:
    runtime = Runtime()
    caller = asyncio.ensure_future(runtime.to_the_end(asyncio.Event().wait))  # type: ignore[arg-type]  # gives a bool
    for _ in range(rounds):
        await asyncio.sleep(0)
    (task,) = asyncio.all_tasks() - {caller, asyncio.current_task()}
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller

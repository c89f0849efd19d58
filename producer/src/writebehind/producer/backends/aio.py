"""The asyncio side of the backends."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from typing import Any, Generic, TypeVar

from .aio_group import Alarms, wake

Item = TypeVar("Item")
Limit = asyncio.Semaphore


class Runtime:
    """The event loop a client was opened on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.alarms = Alarms(self._loop)

    def post(self, function: Callable[[Any], None], argument: Any) -> None:
        """Call a function in the loop, from any thread."""
        try:
            self._loop.call_soon_threadsafe(function, argument)
        except RuntimeError:
            return  # the loop was closed under an open client: nobody is left to be told

    def spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Run in the background; `join` waits for it."""
        self._keep(self._loop.create_task(function(*arguments)))

    def send_off(self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Begin a call that nobody waits for but `join`, once the caller waits for something."""
        self._loop.call_soon(self._begin, function(*arguments))

    async def to_the_end(self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Await a call that is not cancelled with its caller: half a protocol would be left behind.

        It runs until its first wait at once, so that the task is made while somebody else works for it.
        """
        ended: asyncio.Future[None] = self._loop.create_future()
        call = _told(function(*arguments), ended)
        task = self._begin(call)
        if task is not None:
            task.add_done_callback(lambda _: ended.cancel())  # unless it was told: somebody cancels all tasks
        await ended  # and not the task: asyncio.shield() wakes the caller two rounds of the loop later

    def _begin(self, call: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """Run a call until its first wait; gives the task of the rest, if there is any."""
        if sys.version_info >= (3, 12):
            task = asyncio.Task(call, loop=self._loop, eager_start=True)
        else:
            try:
                awaited = call.send(None)
            except StopIteration:
                return None
            task = self._loop.create_task(_rest(call, awaited))
        self._keep(task)
        return task

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def join(self, timeout_s: float) -> None:
        await asyncio.sleep(0)  # what was sent off has begun then
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)

    async def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run something that blocks without blocking the loop."""
        return await asyncio.to_thread(function, *arguments)


async def _told(call: Coroutine[Any, Any, None], ended: asyncio.Future[None]) -> None:
    """Carry a call out, and tell how it ended if its caller still waits."""
    try:
        await call
    except Exception as error:  # noqa: BLE001  # the caller raises it
        if not ended.done():
            ended.set_exception(error)
    else:
        wake(ended)


def _rest(call: Coroutine[Any, Any, None], awaited: Any) -> Generator[Any, Any, None]:
    """The rest of a call that awaits this future, for a task; what `eager_start` does from Python 3.12 on."""
    with contextlib.suppress(StopIteration):
        while True:
            try:
                value = yield awaited
            except BaseException as error:  # noqa: BLE001  # of what it awaits, or the loop ends
                awaited = call.throw(error)
            else:
                awaited = call.send(value)


class Behind:
    """Work that its caller need not wait for, but that is to send before the caller sends again."""

    def __init__(self) -> None:
        self._waiting = 0

    async def step_back(self) -> None:
        """Let those go on who have what they waited for."""
        self._waiting += 1
        try:
            await asyncio.sleep(0)  # they were made ready before us
        finally:
            self._waiting -= 1

    async def let_pass(self) -> None:
        """Let those who stepped back send first."""
        if self._waiting:
            await asyncio.sleep(0)


class Combiner(Generic[Item]):
    """Carries out what concurrent callers ask for in as few calls as possible: whatever arrives while one call
    is under way
    goes into the next.

    The calls run in a task of their own: a caller that is cancelled leaves nobody else the wrong reply. With `at_once`
    a call that need not wait runs in its caller's task, for calls that may be cancelled half-way.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[None]],
        items_max: int,
        at_once: bool = False,
        failed: Callable[[Sequence[Item], Exception], None] | None = None,
    ) -> None:
        self._run = run
        self._items_max = items_max
        self._at_once = at_once
        self._failed = failed  # told what `run` raised for items that were added
        self._waiting: list[tuple[Sequence[Item], asyncio.Future[None] | None]] = []
        self._busy = False
        self._task: asyncio.Task[None] | None = None

    async def submit(self, items: Sequence[Item]) -> None:
        """Returns when `run` was done with these items; raises what it raised."""
        if self._at_once and not self._busy:
            self._busy = True
            try:
                await self._run(items)
            finally:
                self._next()
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, done))
        if not self._busy:
            self._next()
        await done

    def add(self, items: Sequence[Item]) -> None:
        """The same for a caller who learns from `run` what became of them, in his own time."""
        self._waiting.append((items, None))
        if not self._busy:
            self._next()

    def _next(self) -> None:
        self._busy = bool(self._waiting)
        if self._busy:
            self._task = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        while self._waiting:
            taken, count = 0, 0
            for items, _ in self._waiting:
                if taken and count + len(items) > self._items_max:
                    break
                taken, count = taken + 1, count + len(items)
            group, self._waiting = self._waiting[:taken], self._waiting[taken:]
            try:
                await self._run([item for items, _ in group for item in items])
            except BaseException as error:
                for items, done in group:
                    self._tell(items, done, error)
                if isinstance(error, asyncio.CancelledError):
                    self._busy = False
                    raise
            else:
                for _, done in group:
                    if done is not None and not done.done():  # else its caller was cancelled
                        done.set_result(None)
        self._busy = False

    def _tell(self, items: Sequence[Item], done: asyncio.Future[None] | None, error: BaseException) -> None:
        if done is not None:
            if not done.done():
                done.set_exception(error)
        elif self._failed is not None and isinstance(error, Exception):  # else the loop ends, and so do all callers
            self._failed(items, error)


def later(seconds: float, function: Callable[[], None]) -> asyncio.TimerHandle:
    """Call a function after a while, unless the handle is cancelled before."""
    return asyncio.get_running_loop().call_later(seconds, function)


async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)

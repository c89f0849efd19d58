"""Waiting for the writes of one call, on asyncio."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .aio import Runtime

STEP_S = 0.05
LATEST = 1e12


class Group:
    """Writes of one call, and who waits for their answers."""

    __slots__ = ("_alarms", "_open", "_waiting", "abandoned", "detached", "stalled")

    def __init__(self, runtime: Runtime, count: int) -> None:
        self._alarms = runtime.alarms
        self._open = count
        self._waiting: list[asyncio.Future[None]] = []
        self.stalled = False  # some need their base, which their caller loads
        self.detached = False  # nobody waits: failures go to the callback
        self.abandoned = False  # its caller was gone before all was handed over

    def one_done(self) -> None:
        self._open -= 1
        if self._open == 0:
            self._wake()

    def stall(self) -> None:
        self.stalled = True
        self._wake()

    @property
    def answered(self) -> bool:
        return self._open <= 0

    async def wait(self, until: float) -> None:
        """Until all have their answer, some need their base, or this time by the monotonic clock."""
        if self._open <= 0 or self.stalled:
            return
        waiting: asyncio.Future[None] = self._alarms.loop.create_future()
        self._waiting.append(waiting)
        alarm = self._alarms.set(waiting, until)
        try:
            await waiting
        finally:
            del alarm[waiting]

    def _wake(self) -> None:
        for waiting in self._waiting:
            wake(waiting)


def wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():  # else its task was cancelled, or woken already
        waiting.set_result(None)


class Alarms:
    """Time-outs that hardly ever come true. Those of about the same time share a timer of the loop, and are up to
    `STEP_S` late: a timer each takes a tenth of a write.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._steps: dict[int, dict[asyncio.Future[None], None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def set(self, waiting: asyncio.Future[None], until: float) -> dict[asyncio.Future[None], None]:
        """Wake a future at a time by the monotonic clock, unless it is taken out of what this gives."""
        number = int(min(until, LATEST) / STEP_S) + 1
        step = self._steps.get(number)
        if step is None:
            step = self._steps[number] = {}
            self._wind()
        step[waiting] = None
        return step

    def _wind(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        left_s = min(self._steps, default=0) * STEP_S - time.monotonic()
        self._timer = self.loop.call_later(left_s, self._ring) if self._steps else None

    def _ring(self) -> None:
        passed = time.monotonic() / STEP_S
        for number in [number for number in self._steps if number <= passed]:
            for waiting in self._steps.pop(number):
                wake(waiting)
        self._wind()

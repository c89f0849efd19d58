"""Who goes on, and what goes wrong: one thread, a virtual clock, and a decision at each call to a server.

A process that waits in a call is suspended by running others inside that call, so the real code needs no changes.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from .cache import Cache
from .history import History
from .plan import Fault, Plan

T = TypeVar("T")

START_US = 1_800_000_000_000_000
TICKS_US = (1_000, 1_000, 5_000, 20_000, 100_000)  # how long one step may take
DEPTH_MAX = 3  # processes suspended inside one another
STEPS_MAX = 1_500


class Crash(BaseException):
    """The process ended at this call. Nothing it does any more has an effect."""


class Process:
    """One life of a client or a flusher; `side` is the first part of its points."""

    def __init__(self, name: str, side: str) -> None:
        self.name = name
        self.side = side
        self.alive = True
        self.on_end: list[Callable[[], None]] = []

    def check(self) -> None:
        if not self.alive:
            raise Crash

    def end(self) -> None:
        if self.alive:
            self.alive = False
            for hook in self.on_end:
                hook()


@dataclass(eq=False)
class Actor:
    """Something that can take a step: a thread of a process. `ready` says whether there is anything to do."""

    process: Callable[[], Process]
    run: Callable[[], None]
    ready: Callable[[], bool]


class Part(Protocol):
    """A service that keeps actors, whatever becomes of its processes."""

    @property
    def actors(self) -> Sequence[Actor]:
        """The threads of its process."""
        ...


class World:
    """The servers, the actors, the clock, and the faults that are still to come."""

    def __init__(self, plan: Plan, history: History, *, tracing: bool = False) -> None:
        self.plan = plan
        self.history = history
        self.rng = random.Random(plan.schedule)
        self.now_us = START_US
        self.cache = Cache()
        self.parts: list[Part] = []
        self.tracing = tracing
        self.calm = False  # nothing goes wrong any more
        self.on_suspend: Callable[[Process], None] = lambda _: None
        self._process: list[Process] = []
        self._faults = {(fault.point, fault.nth): fault for fault in plan.faults}
        self._counts: dict[str, int] = {}
        self._busy: set[Actor] = set()
        self._steps = 0

    @property
    def process(self) -> Process:
        """The process whose code runs now."""
        return self._process[-1]

    @contextlib.contextmanager
    def within(self, process: Process) -> Iterator[None]:
        """Run code as this process."""
        self._process.append(process)
        try:
            yield
        finally:
            self._process.pop()

    def note(self, *words: object) -> None:
        if self.tracing:
            who = self._process[-1].name if self._process else "world"
            indent = "  " * len(self._busy)
            self.history.trace.append(
                f"{(self.now_us - START_US) / 1e6:9.3f} {indent}{who}: {' '.join(map(str, words))}"
            )

    def call(
        self,
        point: str,
        effect: Callable[[], T],
        error: Callable[[int], BaseException],
        *,
        special: Callable[[int], T] | None = None,
        process: Process | None = None,
    ) -> T:
        """A call to a server. `error` makes the nth kind of error; `special` answers wrongly in a way of its own."""
        process = process or self._process[-1]
        process.check()
        fault = self._fault_at(f"{process.side}.{point}")
        if fault is None:
            return effect()
        if fault.kind in ("wait", "suspend"):
            self._let_others(process, fault)
            process.check()
            return effect()
        if fault.kind == "crash_before":
            self._crash(process)
        if fault.kind == "error_before" or (fault.kind == "special" and special is None):
            raise error(fault.flavour)
        if special is not None and fault.kind == "special":
            return special(fault.flavour)
        result = effect()
        if fault.kind == "crash_after":
            self._crash(process)
        if fault.kind == "error_after":
            raise error(fault.flavour)
        return result

    def _fault_at(self, point: str) -> Fault | None:
        nth = self._counts[point] = self._counts.get(point, -1) + 1
        self.now_us += 1  # no two calls are at the same time: equal versions have no order that could be checked
        fault = None if self.calm else self._faults.pop((point, nth), None)
        if fault is None:
            self.note(point)
            return None
        self.note(f"FAULT {fault}")
        self.history.fired.add((point, fault.kind))
        return fault

    def _crash(self, process: Process) -> None:
        self.history.crashes += 1
        process.end()
        raise Crash

    def _let_others(self, process: Process, fault: Fault) -> None:
        steps = 1 + fault.flavour
        if fault.kind == "suspend":
            self.on_suspend(process)
            self.now_us += 60_000_000
            steps += 12
        self.interleave(steps)

    def interleave(self, steps: int) -> None:
        """Let others take steps while the running actor waits."""
        for _ in range(steps if len(self._busy) < DEPTH_MAX else 0):
            self.step()

    def step(self) -> bool:
        """One step of somebody who has something to do; False when nobody has."""
        self._steps += 1
        self.now_us += self.rng.choice(TICKS_US) + self.rng.randrange(1_000)
        ready = [a for part in self.parts for a in part.actors if a not in self._busy and a.ready()]
        if not ready or self._steps > STEPS_MAX:
            return False
        self.run(self.rng.choice(ready))
        return True

    def run(self, actor: Actor) -> None:
        """One step of an actor. A crash ends its process; any other error that reaches us does too, and is told."""
        process = actor.process()
        self._busy.add(actor)
        try:
            with self.within(process):
                actor.run()
        except Crash:
            pass
        except Exception as error:  # noqa: BLE001  # the process would end; whether it may is for the checkers
            if process.alive:
                self.history.errors.append(f"{process.name} ended: {_chain(error)}")
                process.end()
        finally:
            self._busy.discard(actor)


def _chain(error: BaseException) -> str:
    told = f"{type(error).__name__}: {error}"
    return told if error.__cause__ is None else f"{told} <- {_chain(error.__cause__)}"

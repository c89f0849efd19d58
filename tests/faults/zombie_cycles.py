"""One flusher after the other becomes a zombie, while the other one takes its partitions over."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from tests.faults import ownership
from tests.faults.fleet import Slot
from tests.faults.proxy import Moment
from writebehind.embedded import EmbeddedError

WAIT_S: Final = 90.0
ANY_MOMENT_S: Final = 0.2  # a zombie is suspended at any point of a few batches
_POLL_S: Final = 0.05


class Cycles:
    """Suspends one flusher after the other."""

    def __init__(self, connection: psycopg.Connection[Any], slots: tuple[Slot, Slot], chance: random.Random) -> None:
        self._connection = connection
        self._slots = slots
        self._chance = chance
        self.hand_overs = 0
        self.problems: list[str] = []

    def run(self, number: int) -> None:
        """One cycle: both own partitions before it and after it."""
        zombie, other = self._slots[number % 2], self._slots[1 - number % 2]
        owns = f"flusher {zombie.number} to flush what it owns, and the other one to own something"
        self.wait(lambda: bool(self._held(other)) and self._writes(zombie), owns)
        with self._suspended(zombie, caught=number // 2 % 2 == 1):
            held = self._held(zombie)
            self.wait(lambda: held.keys() <= self._held(other).keys(), f"flusher {other.number} to take over")
            self.wait(lambda: self._writes(other), f"flusher {other.number} to flush what it took over")
            taken = max(self._held(other).values())
        self.hand_overs += len(held)
        back = f"flusher {zombie.number} to own something again"
        self.wait(lambda: max(self._held(zombie).values(), default=0) > taken, back)

    @contextmanager
    def _suspended(self, zombie: Slot, *, caught: bool) -> Iterator[None]:
        """SIGSTOP, and SIGCONT in the end; at any moment, or `caught` as a batch leaves, which arrives in the end."""
        frozen, over = threading.Event(), threading.Event()

        def freeze() -> None:
            zombie.signal(signal.SIGSTOP)
            frozen.set()
            over.wait(3 * WAIT_S)

        try:
            if caught:
                zombie.proxies["database"].trap("BEGIN", Moment.BEFORE_REQUEST, freeze)
                self.wait(frozen.is_set, f"a batch of flusher {zombie.number}")
            else:
                time.sleep(self._chance.random() * ANY_MOMENT_S)
                zombie.signal(signal.SIGSTOP)
            yield
        finally:
            over.set()
            zombie.signal(signal.SIGCONT)

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something is so, and note which flushers end meanwhile. Raises EmbeddedError after WAIT_S."""
        deadline = time.monotonic() + WAIT_S
        while not condition():
            for slot in self._slots:
                if (ended := slot.revive()) is not None:
                    self.problems.append(f"flusher {ended.slot} ended with {ended.code}:\n{ended.log}")
            if time.monotonic() > deadline:
                raise EmbeddedError(f"waited {WAIT_S:g} s for {what}")
            time.sleep(_POLL_S)

    def _held(self, slot: Slot) -> dict[tuple[str, int], int]:
        """The partitions that a flusher claimed last, each with the number of the note that says so."""
        owners = ownership.owners(self._connection)
        return {place: note for place, (writer, note) in owners.items() if writer == slot.number}

    def _writes(self, slot: Slot) -> bool:
        """Whether a flusher owns partitions, and has written since it claimed the last of them."""
        held = self._held(slot)
        return bool(held) and ownership.flushes(self._connection, slot.number, max(held.values())) > 0

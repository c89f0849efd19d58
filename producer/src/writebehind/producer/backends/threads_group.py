"""Waiting for the writes of one call, in threads."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .threads import Runtime


class Group:
    """Writes of one call, and who waits for their answers."""

    __slots__ = ("_event", "_lock", "_open", "abandoned", "detached", "stalled")

    def __init__(self, runtime: Runtime, count: int) -> None:  # noqa: ARG002  # the other backend has its timers there
        self._open = count
        self._lock = threading.Lock()
        self._event = threading.Event()
        self.stalled = False  # some need their base, which their caller loads
        self.detached = False  # nobody waits: failures go to the callback
        self.abandoned = False  # its caller was gone before all was handed over

    def one_done(self) -> None:
        with self._lock:
            self._open -= 1
            last = self._open == 0
        if last:
            self._event.set()

    def stall(self) -> None:
        """Nobody waits yet: it is told within the caller's `Combiner.add`."""
        self.stalled = True

    @property
    def answered(self) -> bool:
        return self._open <= 0

    def wait(self, until: float) -> None:
        """Until all have their answer, some need their base, or this time by the monotonic clock."""
        if not self.stalled:
            self._event.wait(max(0.0, min(until - time.monotonic(), threading.TIMEOUT_MAX)))

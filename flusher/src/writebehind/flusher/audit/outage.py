"""How long an audit waits for a server that is away."""

from __future__ import annotations

import threading
import time

OUTAGE_S = 120.0  # then the audit gives up
AGAIN_S = 0.25  # between two attempts


class Outage:
    """Made before the first attempt. `stop`: set when the audit is told to stop, which is then waited for no longer."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._until = time.monotonic() + OUTAGE_S

    def over(self) -> bool:
        """Whether to give up; else a moment has passed, and it is time for the next attempt."""
        return time.monotonic() > self._until or self._stop.wait(AGAIN_S)

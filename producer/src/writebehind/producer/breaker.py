"""A circuit breaker: after some failures in a row the cache is left alone for a while. Pure; the time is passed in."""

from __future__ import annotations


class Breaker:
    """Closed: calls pass.

    Open: none does, so that a sick cache costs no time-out per call. Half-open: one call probes.
    """

    def __init__(self, failures_max: int, open_s: float) -> None:
        self._failures_max = failures_max
        self._open_s = open_s
        self._failures = 0
        self._open_until = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Open or half-open."""
        return self._failures >= self._failures_max

    def allows(self, now: float) -> bool:
        """Whether a call may go out now. In the half-open state the first to ask becomes the probe."""
        if self._failures < self._failures_max:
            return True
        if now < self._open_until or self._probing:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        self._failures = 0
        self._probing = False

    def failed(self, now: float) -> None:
        self._failures += 1
        self._probing = False
        self._open_until = now + self._open_s

    def withdrawn(self) -> None:
        """The call was given up by its caller, which says nothing of the cache; if it was the probe, another may be."""
        self._probing = False

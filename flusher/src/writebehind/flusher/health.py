"""What a flusher says of itself: is its loop alive, has it joined its group, and what is not ready.

Everything is read from memory by the thread that asks, so that asking never waits for the loop, nor the loop for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.metrics import Observation

from writebehind.shared import telemetry

from .lane import Lane
from .membership import Membership


@dataclass(frozen=True, slots=True)
class Report:
    """The answer to one question, and what to show with it."""

    ok: bool
    body: dict[str, Any]


class Health:
    """Kept by the loop's thread, read by any. `liveness_timeout_s`: how long one step of the loop may take."""

    def __init__(
        self,
        membership: Membership,
        lanes: Sequence[Lane],
        *,
        liveness_timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._membership = membership
        self._lanes = lanes
        self._timeout_s = liveness_timeout_s
        self._clock = clock
        self._beat_at = clock()
        self.stopping = False

    def beat(self) -> None:
        """The loop came round."""
        self._beat_at = self._clock()

    def live(self) -> Report:
        """Only whether the loop turns: a restart mends no database, and an outage must not cause one."""
        silent_s = self._clock() - self._beat_at
        ok = self.stopping or silent_s <= self._timeout_s  # stopping has a bound of its own
        return Report(ok, {"loop_silent_s": round(silent_s, 3), "timeout_s": self._timeout_s})

    def started(self) -> Report:
        """Whether it has ever joined its group."""
        return Report(self._membership.has_joined, {"joined": self._membership.has_joined})

    def ready(self) -> Report:
        """Whether it is in its group, and nothing of it waits for a person. A database that is down does not count."""
        found: list[str] = []
        if self.stopping:
            found.append("stopping")
        if not self._membership.is_member:
            found.append("not in the group")
        found += [
            f"{lane.topic}: the database refuses every batch ({lane.trouble}). Nothing is lost or skipped: mend it, "
            "and it goes on"
            for lane in self._lanes
            if lane.refused
        ]
        found += [f"{reason}. The partition is stopped" for reason in self._membership.stopped.copy().values()]
        return Report(not found, {"not_ready": found})

    def stopped(self) -> Iterable[Observation]:
        """The gauge of what is stopped now, by topic and cause."""
        counts = {(lane.topic, cause): 0 for lane in self._lanes for cause in ("systemic", "partition")}
        for lane in self._lanes:
            counts[lane.topic, "systemic"] |= lane.refused
        for topic, _ in self._membership.stopped.copy():
            counts[topic, "partition"] += 1
        for (topic, cause), count in counts.items():
            yield Observation(count, {telemetry.DESTINATION: topic, telemetry.CAUSE: cause})

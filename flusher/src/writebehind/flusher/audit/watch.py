"""`audit --watch`: run after run, with an alarm that repeats only what persists."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from .run import Result

log = logging.getLogger("writebehind.audit")

Drifted = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Alarm:
    """What changed from one run to the next."""

    new: Drifted
    persists: Drifted
    over: Drifted

    @property
    def rings(self) -> bool:
        return bool(self.new or self.persists)

    def __str__(self) -> str:
        return f"drift: {len(self.new)} new, {len(self.persists)} persist, {len(self.over)} over"


def alarm(before: Drifted, now: Drifted) -> Alarm:
    """Compare two runs' drift. Pure."""
    return Alarm(now - before, now & before, before - now)


def watch(
    run: Callable[[], Result], told: Callable[[Result], None], stop: threading.Event, *, interval_s: float
) -> Result:
    """Run for ever, with pauses. Gives the last run's result once `stop` is set."""
    before: Drifted = frozenset()
    while True:
        result = run()
        told(result)
        if result.finished:
            change = alarm(before, result.drifted)
            before = result.drifted
            if change.rings:
                log.error("%s; run %d has them in writebehind.audit_finding", change, result.run)
            elif change.over:
                log.info("%s", change)
        if stop.wait(interval_s):
            return result

"""What the audit measures, while it runs. Without telemetry each call does nothing."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry.metrics import Meter, NoOpMeter, Observation

from writebehind.shared import telemetry

from .tally import Tally

if TYPE_CHECKING:
    from .run import Result

Counts = dict[tuple[str, str, str], int]  # by series ("verdict" or "repair"), entity and value

SERVICE = "writebehind-audit"
CLOSE_S = 5.0  # how long the end waits for the last export: of a short run it is the only one


class Measures:
    """The instruments. `counted` is called again and again, and adds what is new."""

    def __init__(self, meter: Meter | None = None) -> None:
        meter = meter or NoOpMeter(telemetry.SCOPE)
        self._entries = telemetry.AUDIT_ENTRIES.counter(meter)
        self._repairs = telemetry.AUDIT_REPAIRS.counter(meter)
        self._run = telemetry.AUDIT_RUN.histogram(meter)
        self._verified: dict[str, float] = {}  # by entity, in seconds of the clock
        self._told: Counts = {}
        telemetry.AUDIT_VERIFIED_AGE.watch(meter, self._verified_ages)

    def begin(self, tallies: Mapping[str, Tally]) -> None:
        """A run begins with these counts: what another process had counted is not told again."""
        self._told = _counts(tallies)

    def counted(self, tallies: Mapping[str, Tally]) -> None:
        """Tell what was added since `begin`, or since the last call."""
        now = _counts(tallies)
        for place, count in now.items():
            what, entity, value = place
            if more := count - self._told.get(place, 0):
                if what == "verdict":
                    self._entries.add(more, {telemetry.ENTITY: entity, telemetry.VERDICT: value})
                else:
                    self._repairs.add(more, {telemetry.ENTITY: entity, telemetry.REPAIR: value})
        self._told = now

    def verified(self, entity: str, through: str | None) -> None:
        """Up to when an entity was found in sync; None: never yet, and there is no age."""
        if through is not None:
            self._verified[entity] = dt.datetime.fromisoformat(through).timestamp()

    @contextmanager
    def run(self) -> Iterator[list[Result]]:
        """Time a run. The body puts its result into the list; without one, it failed."""
        began, result = time.monotonic(), list["Result"]()
        try:
            yield result
        finally:
            outcome = _outcome(result[0]) if result else "failed"
            self._run.record(time.monotonic() - began, {telemetry.RUN_OUTCOME: outcome})

    def _verified_ages(self) -> Iterable[Observation]:
        now = time.time()
        return [
            Observation(max(0.0, now - at), {telemetry.ENTITY: entity}) for entity, at in list(self._verified.items())
        ]


def _outcome(result: Result) -> str:
    if result.drift:
        return "drift"
    if not result.finished:
        return "stopped"
    return "unreadable" if result.unreadable else "clean"


def _counts(tallies: Mapping[str, Tally]) -> Counts:
    counts: Counts = {}
    for entity, tally in tallies.items():
        for verdict, count in tally.verdicts.items():
            counts["verdict", entity, str(verdict)] = count
        for repair, count in tally.repairs.items():
            if not repair.startswith("would be "):
                counts["repair", entity, repair.replace(" ", "_")] = count
    return counts

"""The course of a run on one page: start, faults one after the other, quiescence, checks."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psycopg
import redis

from tests.faults import after, checkers
from tests.faults.auditing import audit_until_clean
from tests.faults.checkers_audit import CALM
from tests.faults.crew import CREW
from tests.faults.faults import inject
from tests.faults.fleet import STOP_TIMEOUT_S
from tests.faults.histories import Outcome
from tests.faults.recreated import recreated
from tests.faults.replays import replay_until_closed
from tests.faults.report import Result
from tests.faults.schedule import Planned
from tests.faults.secured import ROLES
from tests.faults.stage import Missed, NotPossible, Stage
from tests.faults.timeline import Incident, Timeline
from tests.faults.workloads import KINDS
from writebehind.embedded import EmbeddedError
from writebehind.embedded.supervisor import Supervisor

START_TIMEOUT_S: Final = 60.0
QUIET_TIMEOUT_S: Final = 45.0  # until everything is flushed, once nobody writes any more
LEAST: Final = {"faults carried out": 20, "writes acknowledged": 100_000}
REPLAY_TIMEOUT_S: Final = 60.0
AUDIT_TIMEOUT_S: Final = 60.0
SETTLE_S: Final = 4.0  # until the cache has heard of it
GAP_MIN_S: Final = 1.0  # between two faults, when the plan is late
LATE: Final = 1.25  # a plan that takes so much longer than it should is cut short
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is told."""

    seed: int
    seconds: float
    poison: float
    folder: Path
    whole: bool = True  # all kinds of fault, for long enough to prove something
    secured: bool = False  # services and flushers come as roles, over TLS


def _too_little(result: Result) -> list[str]:
    """What a run has to have seen before its silence means anything."""
    seen = {"faults carried out": len(result.carried_out), "writes acknowledged": result.outcomes[Outcome.OK]}
    return [f"only {seen[what]} {what}, fewer than {least}" for what, least in LEAST.items() if seen[what] < least]


class Course:
    """One run."""

    def __init__(self, options: Options, stage: Stage, supervisor: Supervisor, say: Callable[[str], None]) -> None:
        self._options = options
        self._stage = stage
        self._supervisor = supervisor
        self._say = say
        self._timeline = Timeline(stage.world)
        self._crew = stage.crew
        self._problems: list[str] = []

    def run(self, planned: Sequence[Planned]) -> Result:
        self._start()
        began = time.monotonic()
        for fault in planned:
            self._carry_out(fault, began)
        for fault in self._never_met():
            self._carry_out(fault, began, again=True)
        self._wait(lambda: time.monotonic() >= began + self._options.seconds, self._options.seconds)
        self._problems += self._crew.ended()
        self._say("the faults are over; waiting until everything is flushed")
        self._problems += self._crew.stop()
        self._quiet()
        self._problems += replay_until_closed(self._stage.world, REPLAY_TIMEOUT_S)
        self._problems += audit_until_clean(self._stage.world, AUDIT_TIMEOUT_S)
        self._stop()
        result = Result(
            self._options.seed, began, self._timeline.incidents, self._timeline.points, exits=self._stage.fleet.exits
        )
        self._check(result)
        return result

    def _start(self) -> None:
        self._stage.fleet.start()
        # Unique rows are the mass of a run; an hour of them at full speed would only be more of the same.
        speed = min(1.0, 900 / self._options.seconds)
        members = [replace(member, rate=member.rate * speed) if member.name == "set" else member for member in CREW]
        self._crew.start(members, seed=self._options.seed, poison=self._options.poison)
        self._timeline.start()
        if not self._wait(self._flowing, START_TIMEOUT_S):
            raise EmbeddedError(f"nothing was flushed within {START_TIMEOUT_S:g} s; look at {self._options.folder}")
        if self._options.secured:
            with self._stage.world.connect() as connection:
                found = connection.execute(
                    "SELECT usename FROM pg_stat_activity WHERE application_name ~ '^writebehind'"
                )
                users = {user for (user,) in found.fetchall()}
            self._problems += [f"nobody came as the {role}" for role in ROLES if f"writebehind_{role}" not in users]

    def _flowing(self) -> bool:
        points = self._timeline.points
        return bool(points) and points[-1].flushed > 0

    def _never_met(self) -> list[Planned]:
        """Faults at a moment that did not come, of which none other of the same kind met it."""
        met = {incident.planned.variant for incident in self._timeline.incidents if not incident.failed}
        return [incident.planned for incident in self._timeline.incidents if incident.planned.variant not in met]

    def _carry_out(self, planned: Planned, began: float, *, again: bool = False) -> None:
        due = max(began + planned.at_s, time.monotonic() + GAP_MIN_S)
        self._wait(lambda: time.monotonic() >= due, due)
        if not again and time.monotonic() > began + self._options.seconds * LATE:
            self._problems.append(f"too late for {planned.variant}")
            return
        incident = self._timeline.begin(planned)
        try:
            self._attempt(incident)
        except NotPossible as error:
            incident.skipped, incident.note = True, str(error)
        except (Missed, EmbeddedError, psycopg.Error, redis.RedisError, OSError) as error:
            incident.failed, incident.note = True, f"{type(error).__name__}: {error}"
            if again or not isinstance(error, Missed):  # a moment that did not come may come in the end
                self._problems.append(f"{planned.variant}: {incident.note}")
        incident.ended = time.monotonic()
        note = f"  ({incident.note})" if incident.note else ""
        took_s = incident.ended - incident.began
        self._say(f"{incident.began - began:7.1f} s  {planned.variant}, {took_s:.1f} s{note}")

    def _attempt(self, incident: Incident) -> None:
        """A flusher without partitions runs into no trap: then it is the other one's turn."""
        try:
            incident.note = inject(self._stage, incident.planned)
        except Missed:
            other = (incident.planned.slot + 1) % len(self._stage.fleet.slots)
            incident.planned = replace(incident.planned, slot=other)
            incident.note = inject(self._stage, incident.planned)

    def _quiet(self) -> None:
        """Nobody writes: wait until all is flushed, and until the cache has heard of it."""
        since = time.monotonic() + 1.0

        def flushed() -> bool:
            points = self._timeline.points
            return bool(points) and points[-1].at > since and self._timeline.settled

        if not self._wait(flushed, QUIET_TIMEOUT_S):
            last = self._timeline.points[-1]
            for slot in self._stage.fleet.slots:
                slot.signal(signal.SIGABRT)  # its log then shows where every thread stands
            self._problems.append(
                f"{last.written - last.flushed} records are not flushed {QUIET_TIMEOUT_S:g} s after the last write"
                f" ({self._timeline.trouble or 'seen just now'})"
            )
            self._wait(flushed, QUIET_TIMEOUT_S)
        self._wait(lambda: False, SETTLE_S)

    def _stop(self) -> None:
        self._timeline.stop()
        for number, (took_s, code) in enumerate(self._stage.fleet.stop()):
            if code != 0 or took_s > STOP_TIMEOUT_S:
                self._problems.append(f"SIGTERM: flusher {number} ended with {code} after {took_s:.1f} s")
        self._problems += [
            f"no recovery from {incident.planned.variant}" for incident in self._timeline.pending if not incident.failed
        ]
        self._problems += self._stage.broken

    def _check(self, result: Result) -> None:
        found = self._crew.told()
        result.count(found)
        state = after.gather(self._stage.world, after.compared_keys(found))
        now = time.monotonic()
        windows = [one.window(now) for one in self._timeline.incidents if one.planned.variant.cache]
        result.violations = after.check(found, state, windows)
        result.letters = len(state.letters)
        result.drift = sum(finding.verdict not in CALM for finding in state.findings)
        if not result.reads:
            self._problems.append("no read was ever answered")
        for name, of_name in found.items():
            ops = [op for history in of_name for op in history.ops]
            self._problems += checkers.never_succeeded(name, KINDS.get(name, ()), ops)
            unexpected = [error for history in of_name for error in history.unexpected]
            self._problems += [f"{name}: an error that no caller can expect: {error}" for error in unexpected[:3]]
        self._problems += recreated(self._supervisor, self._stage.world, self._options.folder)
        if self._options.whole:
            self._problems += _too_little(result)
        result.problems = self._problems

    def _wait(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True

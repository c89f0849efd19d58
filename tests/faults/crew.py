"""The workload processes of a run."""

from __future__ import annotations

import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.faults import histories
from tests.faults.histories import History
from tests.faults.replays import TIMEOUT_S as REPLAY_TIMEOUT_S
from tests.faults.world import ROOT, World, process_environment
from writebehind.embedded.supervisor import Supervisor

POLLER: Final = "poller"
AUDITOR: Final = "auditor"
START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = REPLAY_TIMEOUT_S + 10.0  # a replay that is under way may take as long as it is allowed to
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Member:
    """One process. Its history is `NAME-INDEX.ndjson`."""

    name: str
    index: int
    rate: float


# Rates are calls per second of one process; those of `set` are rows.
CREW: Final = (
    Member("set", 0, 900.0),
    Member("register", 0, 10.0),
    Member("register", 1, 10.0),
    Member("counter", 0, 25.0),
    Member("bank", 0, 20.0),
    Member("patches", 0, 15.0),
    Member("patches", 1, 15.0),
    Member("churn", 0, 20.0),
    Member("poison", 0, 15.0),
    Member("coherence", 0, 15.0),
    Member("appeals", 0, 15.0),
    # What is told apart by index begins at 1: the lowest keys are everybody's.
    Member("aside", 1, 40.0),
    Member("aside", 2, 40.0),
    Member("through", 1, 40.0),
    Member("through", 2, 40.0),
    Member(AUDITOR, 0, 0.0),
    Member(POLLER, 0, 10.0),
)
#: Workloads whose processes are killed. The others tell the whole story of a key, and must live to its end.
MORTAL: Final = ("aside", "through")
#: Who audits and repairs, or replays letters.
OPERATORS: Final = (AUDITOR, "appeals")
_NEXT_INDEX: Final = 10  # a process that takes the place of one that was killed has this much more


class Crew:
    """Started together, stopped together."""

    def __init__(self, supervisor: Supervisor, world: World, folder: Path, *, bug: str = "") -> None:
        self._supervisor = supervisor
        self._world = world
        self._folder = folder
        self._bug = bug
        self._pids: dict[Member, int] = {}
        self._killed: list[Member] = []
        self._seed, self._poison = 0, 0.0

    def start(self, members: Sequence[Member], *, seed: int, poison: float) -> None:
        self._seed, self._poison = seed, poison
        for member in members:
            self._start(member)

    def _start(self, member: Member) -> None:
        options = {
            "--seed": str(self._seed * 100 + len(self.histories)),
            "--history": str(self.history(member)),
            "--index": str(member.index),
            "--rate": str(member.rate),
            "--poison": str(self._poison),
            "--bug": self._bug,
        }
        command = [sys.executable, "-m", "tests.faults.workload", member.name]
        self._pids[member] = self._supervisor.spawn(
            [*command, *[part for option in options.items() for part in option]],
            folder=ROOT,
            log=self._folder / f"{member.name}-{member.index}.log",
            environment=process_environment(self._environment(member)),
        )

    def _environment(self, member: Member) -> dict[str, str]:
        if member.name == POLLER:
            return self._world.env  # no service: it looks at the tables whatever happens to those
        return self._world.operators_env if member.name in OPERATORS else self._world.producers_env

    def kill(self, number: int) -> tuple[Member, Callable[[], None]]:
        """`kill -9` one of those that may be killed; gives what starts another one in its place, and waits for it."""
        mortal = [member for member in self._pids if member.name in MORTAL]
        member = mortal[number % len(mortal)]
        self._supervisor.signal(self._pids.pop(member), signal.SIGKILL, tree=True)
        self._killed.append(member)
        return member, lambda: self._start_and_wait(replace(member, index=member.index + _NEXT_INDEX))

    def _start_and_wait(self, member: Member) -> None:
        """Until it can be asked to stop."""
        self._start(member)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.history(member).exists() and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def history(self, member: Member) -> Path:
        return self._folder / f"{member.name}-{member.index}.ndjson"

    @property
    def histories(self) -> dict[Member, Path]:
        """The files of those that were started."""
        return {member: self.history(member) for member in [*self._killed, *self._pids]}

    def told(self) -> dict[str, list[History]]:
        """What they told, by workload."""
        found: defaultdict[str, list[History]] = defaultdict(list)
        for member, path in self.histories.items():
            found[member.name].append(histories.read_file(path))
        return dict(found)

    def ended(self) -> list[str]:
        """Who ended although nobody asked it to."""
        return [
            f"{member.name}-{member.index} ended with {code}"
            for member, pid in self._pids.items()
            if (code := self._supervisor.exit_code(pid)) is not None
        ]

    def stop(self) -> list[str]:
        """Ask all to finish their calls, and wait for it; tells who did not end well."""
        for pid in self._pids.values():
            self._supervisor.signal(pid, signal.SIGTERM, tree=False)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        found: list[str] = []
        for member, pid in self._pids.items():
            while (code := self._supervisor.exit_code(pid)) is None and time.monotonic() < deadline:
                time.sleep(_POLL_S)
            if code != 0:
                found.append(f"{member.name}-{member.index} ended with {code}")
                self._supervisor.signal(pid, signal.SIGKILL, tree=True)
        return found

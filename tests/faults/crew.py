"""The workload processes of a run."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.world import ROOT, World, process_environment
from writebehind.embedded.supervisor import Supervisor

POLLER: Final = "poller"
STOP_TIMEOUT_S: Final = 60.0
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
    Member(POLLER, 0, 10.0),
)


class Crew:
    """Started together, stopped together."""

    def __init__(self, supervisor: Supervisor, world: World, folder: Path) -> None:
        self._supervisor = supervisor
        self._world = world
        self._folder = folder
        self._pids: dict[Member, int] = {}

    def start(self, members: Sequence[Member], *, seed: int, poison: float) -> None:
        for member in members:
            options = {
                "--seed": str(seed * 100 + len(self._pids)),
                "--history": str(self.history(member)),
                "--index": str(member.index),
                "--rate": str(member.rate),
                "--poison": str(poison),
            }
            command = [sys.executable, "-m", "tests.faults.workload", member.name]
            self._pids[member] = self._supervisor.spawn(
                [*command, *[part for option in options.items() for part in option]],
                folder=ROOT,
                log=self._folder / f"{member.name}-{member.index}.log",
                # The poller is no service: it looks at the tables whatever happens to those.
                environment=process_environment(
                    self._world.env if member.name == POLLER else self._world.producers_env
                ),
            )

    def history(self, member: Member) -> Path:
        return self._folder / f"{member.name}-{member.index}.ndjson"

    @property
    def histories(self) -> dict[Member, Path]:
        """The files of those that were started."""
        return {member: self.history(member) for member in self._pids}

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

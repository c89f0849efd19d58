"""The replay of dead letters as people run it: the command itself, in a process that may be killed on the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tests.faults.entities import Appeal
from tests.faults.world import World, started
from writebehind.shared.declaration import declaration_of

REPLAY: Final = "replay"  # the kind of operation it is in a history
SAID_LINES: Final = 60  # enough for the stack of a process that aborts
TIMEOUT_S: Final = 90.0  # longer than a replay tries while the database is down
COMMAND: Final = ("letters", "replay", "--apply", "--json", "--chunk", "3", "--entity", declaration_of(Appeal).name)


@dataclass(frozen=True, slots=True)
class Kill:
    """When a replay is killed: when it has told of so many letters, or after so many seconds."""

    letters: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Replayed:
    """How a replay ended. `letters`: how many it told of."""

    code: int
    letters: int
    said: str


def replay(env: Mapping[str, str], kill: Kill | None = None) -> Replayed:
    """Replay every open letter of the appeals. A replay that hangs is killed and told of as -9."""
    with started(env, *COMMAND) as process:
        timer = threading.Timer(TIMEOUT_S if kill is None else kill.seconds, process.kill)
        timer.start()
        try:
            lines: list[str] = []
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                if kill is not None and _letters(lines) >= kill.letters:
                    process.kill()
        finally:
            timer.cancel()
    return Replayed(process.returncode, _letters(lines), "".join(lines[-SAID_LINES:]))


def replay_until_closed(world: World, timeout_s: float) -> list[str]:
    """Take away what stands against the letters; says what is wrong when they cannot be replayed to the last one."""
    with world.connect() as connection:
        connection.execute("INSERT INTO fault_permits SELECT generate_series(0, 100000) ON CONFLICT DO NOTHING")
    deadline = time.monotonic() + timeout_s
    while (done := replay(world.env)).code != 0:
        if time.monotonic() > deadline:
            return [f"letters replay --apply ended with {done.code}: {done.said}"]
    return []


def _letters(lines: list[str]) -> int:
    return sum(line.startswith('{"letter"') for line in lines)

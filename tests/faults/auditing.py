"""The audit as people run it: the command itself, in a process that may be killed on the way."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.faults.world import World, started

AUDIT: Final = "audit"  # kinds of operation in a history
PLANT: Final = "plant"
TIMEOUT_S: Final = 150.0  # one that faults hold up for longer is killed
#: How long a difference must last. A flusher that dies leaves entries to the next owner, who has the partition only
#: after the session time-out and a rebalance, and then does what waited meanwhile.
CONFIRM_S: Final = 20.0
_SAID_CHARS: Final = 3000
_POLL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Audited:
    """How an audit ended."""

    code: int
    said: str


def audit(
    env: Mapping[str, str], options: Sequence[str], *, kill_after_s: float = TIMEOUT_S, stopping: threading.Event
) -> Audited:
    """Audit once, and repair what is found. It is killed when its time is over, and told to stop when we are."""
    repairing = ("--repair", "auto", "--apply", "--keys-per-second", "0")
    with started(env, "audit", *options, *repairing) as process:
        deadline, told = time.monotonic() + kill_after_s, False
        while True:
            try:
                said, _ = process.communicate(timeout=_POLL_S)
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline:
                    process.kill()
                elif stopping.is_set() and not told:
                    told = True
                    process.terminate()
            else:
                return Audited(process.returncode, said[-_SAID_CHARS:])


def audit_until_clean(world: World, timeout_s: float) -> list[str]:
    """When nobody writes any more; says what is wrong when repairs do not end in an audit that finds nothing."""
    deadline = time.monotonic() + timeout_s
    while (done := audit(world.env, ["--confirm", "1"], stopping=threading.Event())).code != 0:
        if time.monotonic() > deadline:
            return [f"the last audit ended with {done.code}: {done.said}"]
    return []

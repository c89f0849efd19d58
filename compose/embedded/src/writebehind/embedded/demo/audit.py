"""The audit of the demo's data: the command that a user would run, in both directions."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from writebehind.embedded.demo.flusher import ENTITIES, command
from writebehind.embedded.errors import EmbeddedError

_TIMEOUT_S: Final = 120.0
_DIRECTIONS: Final = {"cache to rows": (), "rows to cache": ("--from-database",)}


@dataclass(frozen=True, slots=True)
class Audited:
    """What one direction of the audit said of one entity. `drift` counts unreadable entries too."""

    direction: str
    entity: str
    compared: int
    drift: int
    examples: Sequence[str]


def audit() -> list[Audited]:
    """Run `writebehind audit` on all entities. Raises EmbeddedError when it cannot, or finds nothing to compare."""
    audited = [one for direction, flags in _DIRECTIONS.items() for one in _read(direction, _run(*flags))]
    if idle := [f"{one.entity}, {one.direction}" for one in audited if not one.compared]:
        raise EmbeddedError(f"`writebehind audit` compared nothing of {'; '.join(idle)}")
    return audited


def _run(*flags: str) -> dict[str, Any]:
    done = subprocess.run(
        command("audit", "--entities", ENTITIES, "--keys-per-second", "0", "--json", *flags),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if not done.stdout:  # a run that could not begin; one that found something prints it and ends with 1 or 2
        raise EmbeddedError("`writebehind audit` failed", exit_code=done.returncode, log=done.stderr)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _read(direction: str, told: dict[str, Any]) -> list[Audited]:
    return [
        Audited(
            direction,
            entity,
            part["compared"],
            part["drift"] + part["verdicts"]["unreadable"],
            [f"{entity} {example['key']}: {example['verdict']}" for example in part["examples"]],
        )
        for entity, part in told["entities"].items()
    ]

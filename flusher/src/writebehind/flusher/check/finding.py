"""What a check says. Pure."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class Severity(enum.StrEnum):
    """How bad it is: an error makes something fail or be lost, a warning may, a hint costs speed or comfort."""

    ERROR = "error"
    WARNING = "warning"
    HINT = "hint"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is not as it should be, why that matters, and the command or setting that mends it."""

    severity: Severity
    server: str
    what: str
    why: str
    fix: str


def error(server: str, what: str, why: str, fix: str) -> Finding:
    return Finding(Severity.ERROR, server, what, why, fix)


def warning(server: str, what: str, why: str, fix: str) -> Finding:
    return Finding(Severity.WARNING, server, what, why, fix)


def hint(server: str, what: str, why: str, fix: str) -> Finding:
    return Finding(Severity.HINT, server, what, why, fix)


@dataclass(frozen=True, slots=True)
class Result:
    """Everything. `unchecked`: servers that could not be asked, and why. `facts`: what each said of itself."""

    findings: Sequence[Finding]
    unchecked: Sequence[tuple[str, str]]
    facts: Sequence[tuple[str, str, Any]]

    @property
    def exit_code(self) -> int:
        """0: no error; 1: something must be mended; 2: something could not be checked."""
        if self.unchecked:
            return 2
        return 1 if any(f.severity is Severity.ERROR for f in self.findings) else 0


SKEW_MAX_S = 1.0


def skewed(server: str, skew_s: float) -> list[Finding]:
    """A clock that is far from ours. Versions and intents are times of these clocks."""
    if abs(skew_s) <= SKEW_MAX_S:
        return []
    way = "ahead of" if skew_s > 0 else "behind"
    what = f"its clock is {abs(skew_s):.1f} s {way} this machine's"
    why = "while the cache is away versions come from other clocks: a write may count as older than one before it"
    return [warning(server, what, why, "let NTP (chrony) keep the time on all machines")]

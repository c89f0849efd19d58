"""What `writebehind migrate` says: what was done, and what is left to do by hand."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Report:
    """What was done, and what has to be done by hand (`problems`, with the statement or command that mends each)."""

    done: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)

"""What is said of tables, entities and columns. Plain facts; how they are put on a page is `document.py`'s business."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Age:
    """How old something may be that is looked at. `at_most_s` None: as long as what `when` says lasts."""

    seen: str
    at_most_s: float | None
    when: str


@dataclass(frozen=True, slots=True)
class Crash:
    """What is left when something dies or cannot be reached: what the caller saw, the row, and what a read shows."""

    at: str
    caller: str
    row: str
    read: str


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """One column of a table. `entity` None: nobody's, or part of the key, as `role` says.

    `row_late_s`: how long after an acknowledged write the row has it, while nothing fails.
    """

    name: str
    role: str
    entity: str | None
    strategy: str | None
    read_from: str = "–"
    row_late_s: float | None = None
    retry: str = "–"  # what it does to write once more after `Unknown`


@dataclass(frozen=True, slots=True)
class EntityFacts:
    """What holds for all fields of an entity. `need`: the row of the decision table that its strategy answers."""

    name: str
    strategy: str
    options: str
    write: str
    read: str
    ages: Sequence[Age]
    crashes: Sequence[Crash]
    need: str


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table, its columns as far as they are known, and the entities on it."""

    name: str
    columns: Sequence[ColumnFacts]
    entities: Sequence[EntityFacts]


@dataclass(frozen=True, slots=True)
class Smell:
    """Something that may go wrong. `place` is an entity or a table; `accepted`: somebody said that it is meant so."""

    code: str
    place: str
    what: str
    why: str
    do: str
    accepted: bool = False


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything. `not_looked_at`: why the database was not asked; None when it was."""

    tables: Sequence[TableFacts]
    smells: Sequence[Smell]
    not_looked_at: str | None

    @property
    def warnings(self) -> int:
        """Smells that nobody accepted."""
        return sum(not smell.accepted for smell in self.smells)

    def as_json(self) -> dict[str, Any]:
        """The stable JSON form; durations in seconds."""
        return {"warnings": self.warnings, **dataclasses.asdict(self)}


def duration(seconds: float) -> str:
    """A duration in the unit that makes its number short."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size or seconds == size:
            return f"{seconds / size:.4g} {unit}"
    return f"{seconds:.4g} s"

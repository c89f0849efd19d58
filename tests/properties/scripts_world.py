"""What the scripts' model knows: a row, the records on their way to it, and the entities they belong to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any

import hypothesis.strategies as st

from writebehind.shared.entity import Entity, Key, Max, Sum, WriteBehind
from writebehind.shared.scripts import Applied, FlatPatch, flat


class _Item(Entity, abstract=True):
    """One field of each merge."""

    id: Annotated[int, Key]
    name: str | None = None
    score: Annotated[int, Sum] = 0
    best: Annotated[int | None, Max] = None


class Item(_Item, table="items", strategy=WriteBehind()):
    """Rows stay."""


class Deletable(_Item, table="deletables", strategy=WriteBehind(deletes=True)):
    """Rows may go."""


NAME, SCORE, BEST = range(3)


@dataclass
class Row:
    """The database row; `version` is the one of its name."""

    name: str | None = None
    score: int = 0
    best: int | None = None
    version: int = 0

    def apply(self, version: int, patch: dict[int, Any]) -> None:
        if NAME in patch and version > self.version:
            self.name, self.version = patch[NAME], version
        self.score += patch.get(SCORE, 0)
        if BEST in patch:
            self.best = patch[BEST] if self.best is None else max(self.best, patch[BEST])

    def copy(self) -> Row:
        return Row(self.name, self.score, self.best, self.version)

    def selected(self) -> tuple[Any, ...]:
        """As `Statements.select` gives it, less the key."""
        return (self.name, self.score, self.best, [self.version])


@dataclass
class Record:
    """A record on the topic. `applied` None: it was enqueued without the cache. `held`: the entry has it."""

    version: int
    patch: dict[int, Any]
    applied: Applied | None
    held: bool = field(init=False)

    def __post_init__(self) -> None:
        self.held = self.applied is not None

    @property
    def generation(self) -> int:
        return self.applied.generation if self.applied else 0


def after(row: Row | None, records: Iterable[Record]) -> Row | None:
    """The row once these records are flushed; an empty patch deletes it."""
    row = row.copy() if row else None
    for record in records:
        if record.patch:
            row = row or Row()
            row.apply(record.version, record.patch)
        else:
            row = None
    return row


def in_cache_form(patch: dict[int, Any]) -> FlatPatch:
    return flat([(position, "\x00" if value is None else str(value)) for position, value in sorted(patch.items())])


patches = st.dictionaries(st.sampled_from([NAME, SCORE, BEST]), st.integers(-3, 9), min_size=1).map(
    lambda patch: {p: (f"n{v}" if p == NAME else v) for p, v in patch.items()}
)

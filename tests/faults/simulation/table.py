"""What one row becomes by the statements of `shared.statement`: MERGE, the delete, and the reset of a late delete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from writebehind.shared.declaration import Column, Declaration
from writebehind.shared.entity import Merge

from .entities import DEFAULTS, POISON


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row: its fields in the declaration's order, and the version in each slot."""

    values: tuple[Any, ...]
    versions: tuple[int | None, ...]


def merged(
    declaration: Declaration, row: TableRow | None, values: Sequence[Any], news: Sequence[int | None]
) -> TableRow:
    """MERGE: `values` per field, `news` per versioned field, as the statement's parameters give them."""
    before = row or default_row(declaration)
    slots = {c.name: place for place, c in enumerate(declaration.versioned)}
    after: list[Any] = []
    for c, ours, theirs in zip(declaration.fields, values, before.values, strict=True):
        if c.merge is Merge.LAST:
            place = slots[c.name]
            after.append(ours if is_newer(news[place], before.versions[place]) else theirs)
        else:
            after.append(_combined(c, ours, theirs))
    return TableRow(tuple(after), tuple(map(_greatest, before.versions, news)))


def default_row(declaration: Declaration) -> TableRow:
    """What a patch of a missing row is merged into."""
    return TableRow(tuple(DEFAULTS[c.name] for c in declaration.fields), (None,) * len(declaration.versioned))


def is_newer(new: int | None, slot: int | None) -> bool:
    """The guard: whether a write replaces what the row holds."""
    return new is not None and new > (slot or 0)


def _combined(c: Column, ours: Any, theirs: Any) -> Any:
    if ours is None or theirs is None:
        return theirs if ours is None else ours
    if c.merge is Merge.SUM:
        return theirs + ours
    return max(theirs, ours) if c.merge is Merge.MAX else min(theirs, ours)


def _greatest(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return max(a, b)


def deleted(row: TableRow, version: int) -> TableRow | None:
    """DELETE: the row, if it holds something newer than the delete."""
    newest = max((v for v in row.versions if v is not None), default=0)
    return None if newest <= version else row


def reset(declaration: Declaration, row: TableRow, version: int) -> TableRow:
    """A delete that comes after newer writes: the fields older than it go back to their defaults."""
    older = {c.name for c, slot in zip(declaration.versioned, row.versions, strict=True) if (slot or 0) < version}
    values = [
        DEFAULTS[c.name] if c.name in older else value for c, value in zip(declaration.fields, row.values, strict=True)
    ]
    return TableRow(tuple(values), row.versions)


def is_refused(row: TableRow) -> bool:
    """The table's check constraint."""
    return any(isinstance(value, str) and value.startswith(POISON) for value in row.values)

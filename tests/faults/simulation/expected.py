"""What a key's records come to: one record at a time, no columns, no batches. Shares nothing with the fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .entities import DEFAULTS, combines
from .history import History, Logged

FIELDS = tuple(DEFAULTS)


@dataclass
class Expected:
    """A key's row. `writers` says, per field, which records stand in it; `open` fields may be more than is said."""

    exists: bool
    values: dict[str, Any]
    writers: dict[str, list[Logged]]
    open: bool  # a delete came after newer writes: a sum or maximum cannot be taken apart then (documented)


def expected(history: History, key: int) -> Expected:
    """The row that must be there once everything on the log is flushed."""
    records = [r for r in history.log if r.key == key and (r.partition, r.offset) not in history.letter_rows]
    deleted = max((r.version for r in records if not r.patch), default=0)
    alive = [r for r in records if r.version > deleted]
    old = None if deleted else history.old_rows.get(key)
    fields = [c.name for c in history.declaration.fields]
    values = dict(zip(fields, old.values, strict=True)) if old else dict(DEFAULTS)
    writers: dict[str, list[Logged]] = {}
    for field in FIELDS:
        writers[field] = [r for r in alive if field in r.patch]
        values[field] = _combined(history, field, writers[field], values[field])
    return Expected(bool(old or alive), values, writers, _inverted(records))


def _combined(history: History, field: str, records: list[Logged], start: Any) -> Any:
    if not records:
        return start
    if not combines(history.declaration, field):
        return max(records, key=lambda r: r.version).patch[field]
    given = [r.patch[field] for r in records]
    if field == "score":
        return start + sum(given)
    return max(given if start is None else [start, *given])


def _inverted(records: list[Logged]) -> bool:
    return any(
        not r.patch and any(earlier.version > r.version for earlier in records[:at]) for at, r in enumerate(records)
    )


def keys_of(history: History) -> list[int]:
    """Every key that anything is known of."""
    return sorted({r.key for r in history.log} | history.rows.keys() | history.old_rows.keys() | history.entries.keys())

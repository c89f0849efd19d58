"""The comparison: one entry, its row, and what is known of the way between them, become a verdict. Pure.

What is compared is what a reader is shown: the entry, and where it is partial, the row under it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic_core import PydanticUndefined

from writebehind.shared.bookkeeping import CLEAN, short_names
from writebehind.shared.declaration import Column, Declaration
from writebehind.shared.entity import Merge
from writebehind.shared.kinds import CACHE_NULL
from writebehind.shared.strategy import Direct

from .entry import Cached
from .same import Beyond, covers, is_readable, read, same

ROW = "(row)"  # in place of a field: the row itself is there, or not, against what the entry says
DELETE = "delete"  # in place of a patch

_WHOLE, _BLANK, _NULL = ord("c"), ord(" "), CACHE_NULL.encode()
_ZERO = re.compile(r"'?0(\.0*)?'?(::.*)?")


class Verdict(enum.StrEnum):
    """What became of one entry.

    IN_SYNC    a reader is shown what the row holds
    PENDING    writes are on their way, or may be
    UNSETTLED  everything is in the row, and nobody told the entry: it never expires
    LOST       the entry shows a write that was never enqueued
    STALE      the row has a newer write than the entry
    DIFFERS    other content, and no version tells why
    ORPHAN     there is no row
    REFUSED    the entry shows what the database refused, or nobody could read
    UNREADABLE something else is under the entry's name
    """

    IN_SYNC = "in_sync"
    PENDING = "pending"
    UNSETTLED = "unsettled"
    LOST = "lost"
    STALE = "stale"
    DIFFERS = "differs"
    ORPHAN = "orphan"
    REFUSED = "refused"
    UNREADABLE = "unreadable"


DRIFT = (Verdict.LOST, Verdict.STALE, Verdict.DIFFERS, Verdict.ORPHAN, Verdict.REFUSED)

Row = Sequence[Any]  # the fields as psycopg loaded them, then the array of versions or None


@dataclass(frozen=True, slots=True)
class Field:
    """A declared field with what the comparison asks of it all the time."""

    column: Column
    short: str
    slot: int | None
    loose: bool  # a sum whose column has a default: without a row under it, the entry cannot know the total


class Comparer:
    """Compares entries of one entity. `slots`: places in the row's array of versions; `defaults`: the table's own."""

    def __init__(
        self, declaration: Declaration, slots: Mapping[str, int], defaults: Mapping[str, str | None] | None = None
    ) -> None:
        defaults = defaults or {}
        self.shorts = short_names([c.name for c in declaration.fields])
        self.declaration = declaration
        self.is_direct = isinstance(declaration.strategy, Direct)
        self.fields = [
            Field(c, short, slots.get(c.name), c.merge is Merge.SUM and not _is_zero(defaults.get(c.name)))
            for c, short in zip(declaration.fields, self.shorts, strict=True)
        ]
        self._to_cache = [
            (lambda value, c=c: c.kind.to_cache(c.loaded(value))) if c.kind.from_db else c.kind.to_cache
            for c in declaration.fields
        ]

    def is_plainly_the_same(self, values: Sequence[bytes | None], row: Row | None) -> bool:
        """The common case, quickly: a clean whole entry, as the cache gave it, is how the row's values are written."""
        header = values[0] if row is not None else None
        if row is None or header is None or len(header) != CLEAN or header[-1] != _WHOLE:
            return False
        if not (header[:16].isdigit() and header[17:33].isdigit() and header[16] == _BLANK):
            return False
        try:
            for raw, value, to_cache in zip(values[1:], row, self._to_cache, strict=False):
                if raw != (_NULL if value is None else to_cache(value).encode()):
                    return False
        except (ValueError, LookupError, TypeError, AttributeError):
            return False  # the row holds what no declared value is: the slow comparison tells
        return True

    def differences(self, cached: Cached, row: Row | None) -> list[str]:
        """The names of fields that differ, or ROW. Empty: a reader is shown what the row holds."""
        kept = cached.kept
        if cached.holds_nothing:
            return []
        nothing = not any(text is not None for text in cached.texts)
        # 1. It says that there is no row, and nothing was written since.
        if kept.complete and not kept.row_exists and nothing:
            return [] if row is None else [ROW]
        # 2. It shows a row, or parts of one.
        if row is None:
            return [] if nothing else [ROW]
        # 3. Each field; one that a whole entry lacks (it is of an older declaration) shows its declared default.
        whole = kept.complete and kept.row_exists
        return [
            field.column.name
            for field, text, value in zip(self.fields, cached.texts, row, strict=False)
            if not self._fits(field, text, value, whole=whole)
        ]

    def shown(self, cached: Cached, row: Row | None, fields: Sequence[str]) -> dict[str, list[str | None]]:
        """The texts of the entry and the row in these fields, None for what is not there."""
        columns = [f.column for f in self.fields if f.column.name in fields or ROW in fields]
        return {
            c.name: [cached.texts[c.position], None if row is None or row[c.position] is None else str(row[c.position])]
            for c in columns
        }

    def _fits(self, field: Field, text: str | None, value: Any, *, whole: bool) -> bool:
        column = field.column
        if text is None:
            return not whole or _is_default(column, value)
        if whole or column.merge is Merge.LAST:
            return same(column, text, value)
        if column.merge is Merge.SUM:
            return field.loose or same(column, text, value)
        return covers(column, text, value)

    def judge(
        self, cached: Cached, row: Row | None, *, flushed: bool, letters: Iterable[int] = (), on_its_way: bool = False
    ) -> Verdict:
        """The verdict on an entry.

        flushed: everything that was enqueued for it before it was read is in the database.
        letters: versions of the key's records that were skipped; 0 for one that could not be read.
        on_its_way: a record of the key may be on its way to the broker still.
        """
        kept = cached.kept
        if kept.pending and (not flushed or on_its_way):
            return Verdict.PENDING
        differing = self.differences(cached, row)
        if not differing:
            return Verdict.UNSETTLED if kept.pending else Verdict.IN_SYNC
        # 1. The record was skipped, and its flusher ended before the entry was told.
        oldest = min(kept.doubted, default=kept.generation)
        if any(not version or oldest <= version <= kept.version for version in letters):
            return Verdict.REFUSED
        # 2. There is no row: its insert was lost, or it never was to be inserted, or somebody deleted it.
        if row is None:
            inserted = kept.pending and self.declaration.write_behind.on_missing == "insert"
            return Verdict.LOST if inserted else Verdict.ORPHAN
        # 3. A write that is in the entry and not in the row.
        if kept.pending and self._lost(cached, row, differing):
            return Verdict.LOST
        # 4. The row has more than the entry.
        newest = newest_version(row)
        if newest > kept.version or (ROW in differing and not kept.deleted_at):
            return Verdict.STALE
        return Verdict.DIFFERS

    def _lost(self, cached: Cached, row: Row, differing: Sequence[str]) -> bool:
        kept = cached.kept
        if ROW in differing:
            return kept.deleted_at is not None and newest_version(row) <= kept.deleted_at
        return any(self._is_lost(field, cached, row) for field in self.fields if field.column.name in differing)

    def _is_lost(self, field: Field, cached: Cached, row: Row | None) -> bool:
        """Whether a field that differs holds a write that never reached the row, as far as that can be told."""
        column = field.column
        text, value = cached.texts[column.position], None if row is None else row[column.position]
        if text is None:
            return False
        if column.merge is Merge.SUM:
            held = cached.kept.sums.get(field.short)
            return held is not None and _minus(column, text, value) == _number(held)
        mark = cached.kept.marks.get(field.short)
        if column.merge is Merge.LAST:
            return mark is not None and mark > version_of(field, row)
        return mark is not None and not covers(column, text, value)

    def lost_patch(self, cached: Cached, row: Row | None) -> list[tuple[int, Any]] | str | None:
        """What a lost write has to say again: fields by position in wire form, or DELETE.

        None when that cannot be told for certain: a sum of which a part may have been counted, a value that no write
        could hold.
        """
        differing = self.differences(cached, row)
        if ROW in differing and row is not None:
            return DELETE
        patch: list[tuple[int, Any]] = []
        for field in self.fields:
            column, text = field.column, cached.texts[field.column.position]
            if text is None or (column.name not in differing and row is not None):
                continue
            if not self._is_lost(field, cached, row):
                if column.merge is Merge.SUM and field.short in cached.kept.sums:
                    return None
                continue
            if not is_readable(column, text):
                return None
            value = _number(cached.kept.sums[field.short]) if column.merge is Merge.SUM else read(column, text)
            value = int(value) if column.merge is Merge.SUM and column.kind.name.startswith("int") else value
            patch.append(
                (column.position, value if value is None or not column.kind.to_wire else column.kind.to_wire(value))
            )
        return patch or None


def newest_version(row: Row | None) -> int:
    """The newest version of a row's fields, 0 without any."""
    versions = None if row is None else row[-1]
    if versions is None or isinstance(versions, int):
        return versions or 0  # of a write-through row
    return max((version for version in versions if version is not None), default=0)


def version_of(field: Field, row: Row | None) -> int:
    """The version that last set a field of the row; 0 when it has none."""
    versions = row[-1] if row is not None else None
    if not versions or field.slot is None or field.slot > len(versions):
        return 0
    return versions[field.slot - 1] or 0


def _minus(column: Column, text: str, value: Any) -> Decimal | None:
    """The cached number less the row's."""
    cached = read(column, text)
    if not isinstance(cached, int | Decimal) or isinstance(value, Beyond):
        return None
    return Decimal(cached) - Decimal(value or 0)


def _number(text: str) -> Decimal:
    return Decimal(text)


def _is_default(column: Column, value: Any) -> bool:
    default = None if column.default is PydanticUndefined else column.default
    return same(column, CACHE_NULL if default is None else column.kind.to_cache(default), value)


def _is_zero(expression: str | None) -> bool:
    return expression is None or _ZERO.fullmatch(expression) is not None

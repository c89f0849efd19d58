"""A read put together from the cache entry and, where the entry is partial, the row. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import PydanticUndefined

from writebehind.shared.bookkeeping import is_complete
from writebehind.shared.declaration import Column, Declaration
from writebehind.shared.entity import Entity, Merge
from writebehind.shared.kinds import CACHE_NULL
from writebehind.shared.scripts import Patch, to_cache

Row = Sequence[Any]  # the fields, then the array of versions or None


def overlay(declaration: Declaration, key: Sequence[Any], fields: Mapping[str, str], row: Row | None) -> Entity | None:
    """The entity as the cache shows it over its row, or None when there is neither. `fields` as `HGETALL` gives them.

    What neither holds (a row whose insert is pending) shows its declared default, else None.
    """
    values: dict[str, Any] = {column.name: value for column, value in zip(declaration.keys, key, strict=True)}
    known, partial = row is not None, not is_complete(fields)
    for column in declaration.fields:
        text = fields.get(column.name)
        if text is not None:
            known = True
            value = None if text == CACHE_NULL else column.kind.from_cache(text)
            if row is not None and partial:
                value = _combine(column, value, column.loaded(row[column.position]))
        elif row is not None:
            value = column.loaded(row[column.position])
        else:
            value = None if column.default is PydanticUndefined else column.default
        values[column.name] = value
    return declaration.cls.model_construct(**values) if known else None


def fill_patch(declaration: Declaration, row: Row | None) -> tuple[bool, int, Patch]:
    """What the fill script needs of a row: whether it exists, its newest version, its fields in cache form."""
    if row is None:
        return False, 0, []
    versions = [version for version in row[-1] or () if version is not None]
    fields = [(c.position, to_cache(c.loaded(row[c.position]), c.kind.to_cache)) for c in declaration.fields]
    return True, max(versions, default=0), fields


def _combine(column: Column, cached: Any, stored: Any) -> Any:
    """A partial entry's field over the row's: candidates of Max and Min that are not in the row yet combine with it."""
    if column.merge not in (Merge.MAX, Merge.MIN) or stored is None:
        return cached
    if cached is None:
        return stored
    return max(cached, stored) if column.merge is Merge.MAX else min(cached, stored)

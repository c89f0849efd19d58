"""Whether a cached text and a column's value are the same value. Pure; by value, as the column's type compares."""

from __future__ import annotations

import math
from decimal import Decimal, InvalidOperation
from typing import Any

from writebehind.shared.declaration import Column
from writebehind.shared.entity import Merge
from writebehind.shared.kinds import CACHE_NULL


class Beyond(str):
    """A value of the database that Python's type cannot hold, as text: an infinite timestamp, the year 20000."""

    __slots__ = ()


_NOT_THERE = object()


def same(column: Column, text: str, value: Any) -> bool:
    """Whether the cache's text is the row's value. `value` as psycopg loaded it, None: NULL."""
    if value is None or text == CACHE_NULL:
        return value is None and text == CACHE_NULL
    if isinstance(value, Beyond):
        return text == value
    try:
        stored = column.loaded(value)
        if column.kind.to_cache(stored) == text:
            return True
        return equal(column.kind.from_cache(text), stored)
    except (ValueError, LookupError, ArithmeticError, TypeError, AttributeError, RecursionError):
        return False  # what cannot be read as the column's type is another value


def covers(column: Column, text: str, value: Any) -> bool:
    """Whether a row's maximum or minimum already holds a candidate: applying it would change nothing."""
    if same(column, text, value):
        return True
    cached = read(column, text)
    if value is None or isinstance(value, Beyond) or cached is _NOT_THERE or cached is None:
        return cached is None  # NULL is no candidate
    stored = column.loaded(value)
    try:
        return bool(stored > cached) if column.merge is Merge.MAX else bool(stored < cached)
    except (TypeError, InvalidOperation):
        return False


def read(column: Column, text: str) -> Any:
    """The Python form of a cached text; something that equals nothing when it cannot be read."""
    try:
        return None if text == CACHE_NULL else column.kind.from_cache(text)
    except (ValueError, LookupError, ArithmeticError, TypeError, RecursionError):
        return _NOT_THERE


def is_readable(column: Column, text: str) -> bool:
    """Whether a cached text is a value of the column's type that a write could hold."""
    value = read(column, text)
    if value is None or value is _NOT_THERE:
        return value is None and column.nullable
    try:
        column.kind.check(value)
    except ValueError:
        return False
    return True


def equal(left: Any, right: Any) -> bool:
    """Equality of two loaded values: NaN equals NaN, numbers by value, instants whatever their zone, JSON by value."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(value, right[name]) for name, value in left.items())
    if _is_nan(left) and _is_nan(right):
        return True
    return bool(left == right)


def _is_nan(value: Any) -> bool:
    return value.is_nan() if isinstance(value, Decimal) else isinstance(value, float) and math.isnan(value)

"""Comparing all rows that must be there with all rows that are. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from writebehind.embedded.demo.expected import Key, Row

_ABSENT: Final = "no row"


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is not what it must be; `field` is None when a whole row is missing or nobody asked for it."""

    place: str
    table: str
    key: Key
    field: str | None
    expected: Any
    found: Any

    def __str__(self) -> str:
        name = f"{self.table}({', '.join(self.key)})" + (f".{self.field}" if self.field else "")
        return f"{self.place}: {name} is {_shown(self.found)}, expected {_shown(self.expected)}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The outcome for one table in one place ("Postgres" or "cache"): rows that had to be there, and what is wrong."""

    place: str
    table: str
    rows: int
    differences: list[Difference]


def compare(place: str, table: str, expected: Mapping[Key, Row], found: Mapping[Key, Row]) -> Comparison:
    """Every field of every row, in both directions: rows too few and rows too many are differences too."""
    differences: list[Difference] = []
    for key in sorted(expected.keys() | found.keys()):
        must, is_ = expected.get(key), found.get(key)
        if must is None or is_ is None:
            missing = (_ABSENT, "a row") if must is None else ("a row", _ABSENT)
            differences.append(Difference(place, table, key, None, *missing))
            continue
        differences += [
            Difference(place, table, key, field, must.get(field), is_.get(field))
            for field in sorted(must.keys() | is_.keys())
            if field not in must or field not in is_ or must[field] != is_[field]
        ]
    return Comparison(place, table, len(expected), differences)


def _shown(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)

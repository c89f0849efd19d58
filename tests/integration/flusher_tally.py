"""What a table must hold after a set of writes, by the plainest code that can say so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from writebehind.shared.declaration import declaration_of
from writebehind.shared.entity import Entity, Merge

Key = tuple[Any, ...]


@dataclass
class Tally:
    """Counts every write once. Knows nothing of deletes: tests with deletes say themselves what they expect."""

    last: dict[tuple[type[Entity], Key, str], tuple[int, Any]] = field(default_factory=dict)
    combined: dict[tuple[type[Entity], Key, str], Any] = field(default_factory=dict)

    def add(self, cls: type[Entity], key: Key, version: int, patch: dict[str, Any]) -> None:
        for column in declaration_of(cls).fields:
            if column.name not in patch:
                continue
            place, value = (cls, key, column.name), patch[column.name]
            if column.merge is Merge.LAST:
                if version > self.last.get(place, (0, None))[0]:
                    self.last[place] = (version, value)
            elif place not in self.combined:
                self.combined[place] = value
            elif column.merge is Merge.SUM:
                self.combined[place] += value
            elif column.merge is Merge.MAX:
                self.combined[place] = max(self.combined[place], value)
            else:
                self.combined[place] = min(self.combined[place], value)

    def check(self, cls: type[Entity], rows: dict[Key, dict[str, Any]]) -> None:
        """Fail with every field that differs."""
        expected = {place: value for place, (_, value) in self.last.items()} | self.combined
        wrong = {
            (key, name): f"is {rows.get(key, {}).get(name, 'missing')!r}, must be {value!r}"
            for (owner, key, name), value in expected.items()
            if owner is cls and rows.get(key, {}).get(name, "missing") != value
        }
        assert not wrong, f"{cls.__name__}: {wrong}"

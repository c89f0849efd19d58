"""What the producer of `bench_recovery` was told, and what the table holds of it. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

Rows = Mapping[int, tuple[int, int | None]]  # hits and note by key


@dataclass(slots=True)
class Tally:
    """Writes by key; each one adds 1 to `hits` and sets `note`."""

    acknowledged: Counter[int] = field(default_factory=Counter)
    unknown: Counter[int] = field(default_factory=Counter)
    newest: dict[int, tuple[int, int]] = field(default_factory=dict)  # version and note of the newest acknowledged one
    failed: int = 0

    def add(self, key: int, version: int, note: int) -> None:
        """An acknowledged write."""
        self.acknowledged[key] += 1
        if version > self.newest.get(key, (0, 0))[0]:
            self.newest[key] = (version, note)

    def save(self, path: Path) -> None:
        """Write a file that `load` reads."""
        keys = [
            (key, self.acknowledged[key], self.unknown[key], *self.newest.get(key, (0, 0)))
            for key in self.acknowledged.keys() | self.unknown.keys()
        ]
        path.write_text(json.dumps({"failed": self.failed, "keys": keys}))

    @classmethod
    def load(cls, path: Path) -> Tally:
        """Read what `save` wrote."""
        saved = json.loads(path.read_text())
        made = cls(failed=saved["failed"])
        for key, acknowledged, unknown, version, note in saved["keys"]:
            made.acknowledged[key], made.unknown[key] = acknowledged, unknown
            if version:
                made.newest[key] = (version, note)
        return made


def compare(tally: Tally, rows: Rows) -> tuple[int, int]:
    """How many acknowledged writes are missing from the rows, and how many are there that nobody made.

    A write of unknown outcome may be there once or not at all, and may have set the note.
    """
    missing = doubled = 0
    for key in tally.acknowledged.keys() | tally.unknown.keys() | rows.keys():
        hits, note = rows.get(key, (0, None))
        acknowledged, unknown = tally.acknowledged[key], tally.unknown[key]
        missing += max(0, acknowledged - hits)
        doubled += max(0, hits - acknowledged - unknown)
        if key in tally.newest and not unknown and note != tally.newest[key][1]:
            missing += 1
    return missing, doubled

"""Entries that may not have been told of records which are in the database. Pure; the time is passed in.

Their settlement failed, so that nobody knows whether it was carried out, or another flusher committed the records and
may have died before it settled them. Such an entry counts too many writes as pending, never too few, so it can go on
serving what is pending. It is deleted once the database has all that it holds. One that is written all the time is
deleted when it has had `DOUBT_MAX_S`, whatever it holds: it may also miss a write, or hold one that was refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

from writebehind.shared.fold import Settlement

DOUBT_MAX_S = 10.0
KEYS_MAX = 1_000_000  # remembered while the cache is down; the entries of more are for the audit to find
ALL = 1 << 62  # newer than every version


class Doubts:
    """Keys in doubt. False when there is none."""

    def __init__(self) -> None:
        self._untried: dict[str, int] = {}  # with the newest version in the database
        self._since: dict[str, float] = {}  # entries that held something newer, and when that was found

    def __bool__(self) -> bool:
        return bool(self._untried or self._since)

    def __contains__(self, key: str) -> bool:
        return key in self._since or key in self._untried

    def add(self, versions: Mapping[str, int]) -> None:
        """Doubt entries of which the database has these versions."""
        known = self._untried
        for key, version in islice(versions.items(), KEYS_MAX - len(known)):
            known[key] = max(version, known.get(key, 0))

    def due(self, now: float) -> dict[str, int]:
        """Keys to try, and what their entries may hold at most to be deleted."""
        overdue = {key: ALL for key, since in self._since.items() if now >= since + DOUBT_MAX_S}
        return {**self._untried, **overdue}

    def flushed(self, settlement: Settlement) -> dict[str, int]:
        """The same, because the database has got more of them."""
        if not self._since:
            return {}
        return newest((k, v) for k, v in zip(settlement.keys, settlement.versions, strict=True) if k in self._since)

    def tried(self, gone: Mapping[str, bool], now: float) -> None:
        """Whether each entry is gone, or holds something newer."""
        for key, is_gone in gone.items():
            self._untried.pop(key, None)
            if is_gone:
                self._since.pop(key, None)
            else:
                self._since.setdefault(key, now)


def newest(records: Iterable[tuple[str, int | None]]) -> dict[str, int]:
    """The newest version of each key. A record without a version could hold anything."""
    found: dict[str, int] = {}
    for key, version in records:
        found[key] = max(found.get(key, 0), ALL if version is None else version)
    return found

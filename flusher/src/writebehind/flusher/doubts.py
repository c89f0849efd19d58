"""Entries of records that another flusher committed, and may have died before it settled them. Pure.

Such an entry counts too many writes as pending, never too few, so it can go on serving what is pending. It is deleted
once the database has all that it holds; one that is written all the time is deleted when it has had `DOUBT_MAX_S`,
whatever it holds, because it may also miss a write, or hold one that was refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from writebehind.shared.fold import Settlement

DOUBT_MAX_S = 10.0
ALL = 1 << 62  # newer than every version


class Doubts:
    """Keys in doubt, each with the time since when. False when there is none."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._since)

    def __contains__(self, key: str) -> bool:
        return key in self._since

    def add(self, keys: Iterable[str], now: float) -> None:
        self._since.update(dict.fromkeys(keys, now))

    def remove(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._since.pop(key, None)

    def flushed(self, settlement: Settlement) -> dict[str, int]:
        """Keys in doubt of which the database has got more, with the newest version that it has."""
        newest: dict[str, int] = {}
        for key, version in zip(settlement.keys, settlement.versions, strict=True) if self._since else ():
            if key in self._since:
                newest[key] = max(version, newest.get(key, 0))
        return newest

    def overdue(self, now: float) -> dict[str, int]:
        """Keys that have been in doubt for too long; whatever their entries hold."""
        return {key: ALL for key, since in self._since.items() if now >= since + DOUBT_MAX_S}


def newest(records: Iterable[tuple[str, int | None]]) -> Mapping[str, int]:
    """The newest version of each key. A record without a version could hold anything."""
    found: dict[str, int] = {}
    for key, version in records:
        found[key] = max(found.get(key, 0), ALL if version is None else version)
    return found

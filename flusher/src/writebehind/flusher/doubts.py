"""Entries that may not have been told of records which are in the database. Pure.

Their settlement failed, so that nobody knows whether it was carried out, or another flusher committed the records and
may have died before it settled them. The cache is told so as soon as it answers (`lua/doubt.lua`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

KEYS_MAX = 1_000_000  # remembered while the cache is down; the entries of more are for the audit to find
ALL = 1 << 62  # newer than every version


class Doubts:
    """Keys whose entries are to be put in doubt. False when there is none."""

    def __init__(self) -> None:
        self._keys: dict[str, int] = {}  # with the newest version in the database

    def __bool__(self) -> bool:
        return bool(self._keys)

    def add(self, versions: Mapping[str, int]) -> None:
        """Doubt entries of which the database has these versions."""
        known = self._keys
        for key, version in islice(versions.items(), KEYS_MAX - len(known)):
            known[key] = max(version, known.get(key, 0))

    def some(self, count: int) -> dict[str, int]:
        """At most so many of them."""
        return dict(islice(self._keys.items(), count))

    def told(self, keys: Iterable[str]) -> None:
        """The cache knows now."""
        for key in keys:
            del self._keys[key]


def newest(records: Iterable[tuple[str, int | None]]) -> dict[str, int]:
    """The newest version of each key. A record without a version could hold anything."""
    found: dict[str, int] = {}
    for key, version in records:
        found[key] = max(found.get(key, 0), ALL if version is None else version)
    return found

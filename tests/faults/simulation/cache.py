"""The cache in memory: hashes with an expiry, and what the scripts need of them. Numbers are whole, so exact."""

from __future__ import annotations

from collections.abc import Sequence

NULL = "\0"
Fields = Sequence[Sequence[str]]  # per field: name, merge, order, low, high


class Cache:
    """Entries by key, and when each expires; `now` is the time in microseconds."""

    def __init__(self) -> None:
        self.entries: dict[str, dict[str, str]] = {}
        self.expires: dict[str, int] = {}
        self.now = 0

    def expire(self, key: str) -> None:
        if self.expires.get(key, self.now + 1) <= self.now:
            self.drop(key)

    def drop(self, key: str) -> None:
        self.entries.pop(key, None)
        self.expires.pop(key, None)

    def entry(self, key: str) -> dict[str, str]:
        """An entry to read; writing to it needs `make`."""
        return self.entries.get(key, {})

    def make(self, key: str) -> dict[str, str]:
        return self.entries.setdefault(key, {})

    def wipe(self) -> None:
        self.entries.clear()
        self.expires.clear()


def add(a: str, b: str) -> str:
    return str(int(a) + int(b))


def pick(current: str | None, candidate: str, merge: str, order: str) -> str:
    """The greater or the smaller of what is there and a candidate; nothing and NULL give way."""
    if current is None or current == NULL:
        return candidate
    left, right = (current, candidate) if order == "s" else (float(current), float(candidate))
    if merge == "max":
        return candidate if left < right else current  # type: ignore[operator]  # both are text or both are numbers
    return candidate if right < left else current  # type: ignore[operator]  # as above


def take_candidate(entry: dict[str, str], field: Sequence[str], value: str) -> None:
    """Combine a row's maximum or minimum with what is there; what is the row's has no mark."""
    name, merge, order = field[:3]
    picked = pick(entry.get(name), value, merge, order) if value != NULL else entry.get(name, value)
    if picked != entry.get(name):
        entry[name] = picked
        entry.pop("~" + name, None)


def mark_of(field: Sequence[str]) -> str:
    return ("+" if field[1] == "sum" else "~") + field[0]


def leased(lease: str | None, now: int, lease_us: int) -> bool:
    return lease is not None and now - int(lease.rpartition(":")[2]) < lease_us

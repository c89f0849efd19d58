"""The decision table: which need asks for which strategy, and how each goes wrong."""

from __future__ import annotations

from dataclasses import dataclass

from writebehind.shared.strategy import CacheAside, Strategy, WriteBehind


@dataclass(frozen=True, slots=True)
class Need:
    """A row of the table."""

    need: str
    strategy: str
    goes_wrong: str


READS = Need("reads dominate, and a read may be a little old", "cache-aside", "slow: misses load the row")
FRESH = Need("a read after a write must be fresh", "write-through", "slow writes: each waits for database and cache")
VOLUME = Need(
    "write volume is huge, and the row may lag", "write-behind", "the row is late; no acknowledged write is lost"
)
UNSURE = Need("you are not sure", "cache-aside", "it fails the safest: towards slow, not wrong")
TABLE = (READS, FRESH, VOLUME, UNSURE)


def need_of(strategy: Strategy) -> Need:
    """The row that a strategy answers."""
    match strategy:
        case WriteBehind():
            return VOLUME
        case CacheAside():
            return READS
        case _:
            return FRESH

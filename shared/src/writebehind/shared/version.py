"""Versions: a hybrid logical clock in microseconds since the Unix epoch.

A version is `max(previous + 1, cache clock, newest version this client has seen + 1)` (Kulkarni et al., "Logical
Physical
Clocks", 2014, with the logical part folded into the microseconds). The cache script that applies a write hands it
out, so
all writes of one key are ordered by one authority. This class is the stand-in for the time the cache is unreachable.
"""

from __future__ import annotations


class VersionClock:
    """The newest version this client has seen, and the offset of its clock from the cache's.

    Takes time as a parameter.
    """

    __slots__ = ("newest", "offset_us")

    def __init__(self) -> None:
        self.newest = 0
        self.offset_us = 0

    def observe(self, version: int) -> None:
        """Remember a version that was handed out or read, so that later ones are newer."""
        self.newest = max(self.newest, version)

    def calibrate(self, sent_us: int, received_us: int, cache_us: int) -> None:
        """Learn the cache clock's offset from one exchange (Cristian's algorithm: the reply was made half-way)."""
        self.offset_us = cache_us - (sent_us + received_us) // 2

    def next(self, now_us: int) -> int:
        """A version newer than any seen, close to what the cache's clock would say at `now_us` of ours."""
        self.newest = max(self.newest + 1, now_us + self.offset_us)
        return self.newest

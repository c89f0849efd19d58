"""The clock that stands in for the cache's: never back, close to the cache's time."""

from __future__ import annotations

from writebehind.shared.version import VersionClock


def test_a_version_is_the_time_when_the_time_is_newer() -> None:
    assert VersionClock().next(1_000) == 1_000


def test_versions_go_up_when_the_time_stands_still_or_goes_back() -> None:
    clock = VersionClock()

    assert [clock.next(1_000), clock.next(1_000), clock.next(10), clock.next(1_002), clock.next(2_000)] == [
        1_000,
        1_001,
        1_002,
        1_003,
        2_000,
    ]


def test_a_version_is_newer_than_any_seen() -> None:
    clock = VersionClock()

    clock.observe(5_000)
    clock.observe(4_000)

    assert clock.next(1_000) == 5_001


def test_the_clock_follows_the_caches_clock() -> None:
    clock = VersionClock()

    clock.calibrate(sent_us=1_000, received_us=1_200, cache_us=5_100)  # the reply was made at 1,100 of ours

    assert clock.offset_us == 4_000
    assert clock.next(1_300) == 5_300

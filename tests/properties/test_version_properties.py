"""Versions: strictly newer each time, whatever the clocks do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from writebehind.shared.version import VersionClock

TIMES = st.integers(0, 2**52)
STEPS = st.lists(
    st.tuples(st.just("next"), st.tuples(TIMES))
    | st.tuples(st.just("observe"), st.tuples(TIMES))
    | st.tuples(st.just("calibrate"), st.tuples(TIMES, TIMES, TIMES))
)


@given(STEPS)
def test_each_version_is_newer_than_all_before_whatever_the_clocks_do(steps: list[tuple[str, tuple[int, ...]]]) -> None:
    clock = VersionClock()
    newest = 0
    for name, arguments in steps:
        if name == "next":
            version = clock.next(arguments[0])
            assert version == max(newest + 1, arguments[0] + clock.offset_us)  # newer, and no newer than it must be
            newest = version
        elif name == "observe":
            clock.observe(arguments[0])
            newest = max(newest, arguments[0])
        else:
            sent, received, cache = arguments
            clock.calibrate(sent, received, cache)
            assert (sent + received) // 2 + clock.offset_us == cache

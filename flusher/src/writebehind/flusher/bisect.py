"""Finding the bad ones among many by halving. Pure: what trying a stretch means is passed in."""

from __future__ import annotations

from collections.abc import Callable


def isolate(count: int, passes: Callable[[int, int], bool]) -> list[int]:
    """Which of `count` things fail alone, in order; all of them together are known to fail.

    `passes(start, end)` tries the things from `start` up to but without `end`. A stretch is halved until one thing is
    left, and none is called bad that was not tried alone. One bad thing costs at most 2·⌈log2 count⌉ tries.
    """
    bad: list[int] = []

    def try_stretch(start: int, end: int) -> bool:
        if passes(start, end):
            return True
        if end - start == 1:
            bad.append(start)
        else:
            halve(start, end)
        return False

    def halve(start: int, end: int) -> None:
        middle = (start + end) // 2
        if try_stretch(start, middle) and end - middle > 1:
            halve(middle, end)  # what fails must be in here: trying it as a whole would tell nothing new
        else:
            try_stretch(middle, end)

    if count == 1:
        try_stretch(0, 1)
    elif count:
        halve(0, count)
    return bad

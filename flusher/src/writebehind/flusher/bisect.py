"""Finding the bad ones among many by splitting. Pure: what trying a stretch means is passed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

Stretch = tuple[int, int]  # from the first up to but without the second

PIECES = 4  # as many tries as halving twice, and half the round trips
PIECES_OF_MANY = 16  # when no stretch passes there are many bad ones, and tries of long stretches tell nothing


def isolate(count: int, passes: Callable[[Sequence[Stretch]], Sequence[bool]]) -> list[int]:
    """Which of `count` things fail alone, in order; all of them together are known to fail.

    `passes` tries stretches, given in order, and tells of each whether it passed. What failed is split and tried again
    until one thing is left; none is called bad that was not tried alone. One bad thing costs at most 2·⌈log2 count⌉
    tries, in half as many calls.
    """
    bad: list[int] = []
    failed, pieces = [(0, count)] if count else [], PIECES
    while failed:
        tried = [piece for stretch in failed for piece in _split(stretch, pieces)]
        failed = [stretch for stretch, passed in zip(tried, passes(tried), strict=True) if not passed]
        pieces = PIECES_OF_MANY if len(failed) == len(tried) else PIECES
        bad += [start for start, end in failed if end - start == 1]
        failed = [(start, end) for start, end in failed if end - start > 1]
    return sorted(bad)


def _split(stretch: Stretch, pieces: int) -> Iterator[Stretch]:
    start, end = stretch
    pieces = min(pieces, end - start)
    cuts = [start + (end - start) * n // pieces for n in range(pieces + 1)]
    return pairwise(cuts)

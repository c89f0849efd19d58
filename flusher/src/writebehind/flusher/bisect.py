"""Finding the bad ones among many by splitting. Pure: what trying a stretch means is passed in.

Each bad one is searched for by halving (Hwang's generalized binary splitting, JASA 67, 1972): of a stretch that holds
one, the first half is tried; when it passes, the first bad one is in the second, which need not be tried to know that.
What lies behind a bad one is then tried in one piece. All stretches go on side by side, so that a call tries many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

Stretch = tuple[int, int]  # from the first up to but without the second

PIECES = 4
PIECES_OF_MANY = 16  # when no stretch passes there are many bad ones, and tries of long stretches tell nothing


class _Search(NamedTuple):
    """The first bad one is between `start` and `end`; nothing is known of what lies from there to `limit`.

    `end` None: of the whole stretch nothing is known.
    """

    start: int
    end: int | None
    limit: int

    @property
    def trial(self) -> Stretch:
        return self.start, self.limit if self.end is None else (self.start + self.end) // 2

    def after(self, *, passed: bool) -> _Search | None:
        """The search after its trial; None when there is nothing left to find."""
        tried_to = self.trial[1]
        if passed:
            return None if self.end is None else self._replace(start=tried_to)
        return self._replace(end=tried_to)


def isolate(count: int, passes: Callable[[Sequence[Stretch]], Sequence[bool]]) -> list[int]:
    """Which of `count` things fail, in order; all of them together are known to fail.

    `passes` tries stretches, given in order, and tells of each whether it passed. A thing is called bad when it failed
    alone, or when it is what is left of a stretch that failed and of which everything else passed. One bad thing costs
    at most ⌈log2 count⌉ + 4 tries.
    """
    bad: list[int] = []
    searches = [_Search(at, None, to) for at, to in _split((0, count), PIECES)] if count else []
    while searches:
        passed = passes([search.trial for search in searches])
        many = not any(passed) and all(search.end is None for search in searches)
        following: list[_Search] = []
        for search, has_passed in zip(searches, passed, strict=True):
            after = search.after(passed=has_passed)
            if after is None:
                continue
            start, end, limit = after
            if end is not None and end - start == 1:
                bad.append(start)
                following += [_Search(end, None, limit)] if end < limit else []
            elif many:
                following += [_Search(at, None, to) for at, to in _split((start, limit), PIECES_OF_MANY)]
            else:
                following.append(after)
        searches = following
    return sorted(bad)


def _split(stretch: Stretch, pieces: int) -> Iterator[Stretch]:
    start, end = stretch
    pieces = min(pieces, end - start)
    cuts = [start + (end - start) * n // pieces for n in range(pieces + 1)]
    return pairwise(cuts)

"""Finding the bad ones among many by splitting. Pure: what trying a stretch means is passed in.

Whoever tries a stretch may have seen how far it came before it failed. Then what lies before that place is tried, which
ought to pass, the one at that place, which ought to fail, and what lies behind it in one piece. Where nothing was seen,
or it turns out to be wrong, the first bad one is searched for by halving (Hwang's generalized binary splitting, JASA
67, 1972): the first half is tried; when it passes, the bad one is in the second, which need not be tried to know that.

All stretches go on side by side, so that a call tries many. Nothing that passed is tried again.
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

    `end` None: of the whole stretch nothing is known. `seen`: where the bad one seems to be.
    """

    start: int
    end: int | None
    limit: int
    seen: int | None = None

    @property
    def trial(self) -> Stretch:
        if self.end is None:
            return self.start, self.limit
        if self.seen is None:
            return self.start, (self.start + self.end) // 2
        return self.start, max(self.seen, self.start + 1)

    def after(self, failed_at: int | None) -> _Search | None:
        """The search after its trial; None when there is nothing left to find."""
        start, tried_to = self.trial
        if self.end is None:
            if failed_at is None:
                return None
            return self._replace(end=self.limit, seen=failed_at if start < failed_at < self.limit else None)
        if failed_at is not None:  # at the place that was seen, or before it
            return self._replace(end=tried_to, seen=None)
        return self._replace(start=tried_to, seen=self.seen if self.seen == tried_to else None)


def isolate(count: int, failures: Callable[[Sequence[Stretch]], Sequence[int | None]]) -> list[int]:
    """Which of `count` things fail, in order; all of them together are known to fail.

    `failures` tries stretches, given in order, and tells of each where it failed: None when it passed, the stretch's
    start when that is not known. A thing is called bad when it failed alone, or when it is what is left of a stretch
    that failed and of which everything else passed. One bad thing costs at most ⌈log2 count⌉ + 5 tries.
    """
    bad: list[int] = []
    searches = [_Search(at, None, to) for at, to in _split((0, count), PIECES)] if count else []
    while searches:
        failed = failures([search.trial for search in searches])
        many = None not in failed and all(search.end is None for search in searches)
        following: list[_Search] = []
        for search, failed_at in zip(searches, failed, strict=True):
            after = search.after(failed_at)
            if after is None:
                continue
            start, end, limit, _ = after
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

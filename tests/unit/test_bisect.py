"""Halving: which of many fail alone, and how many tries it takes to know."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from writebehind.flusher.bisect import isolate


class Trial:
    """Things of which some are bad; counts what is tried."""

    def __init__(self, count: int, bad: set[int]) -> None:
        self.bad = bad
        self.tried: list[tuple[int, int]] = []
        self.found = isolate(count, self._passes)

    def _passes(self, start: int, end: int) -> bool:
        self.tried.append((start, end))
        return not any(start <= one < end for one in self.bad)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))))
def test_exactly_the_bad_ones_are_found_each_tried_alone(case: tuple[int, set[int]]) -> None:
    count, bad = case
    trial = Trial(count, bad)
    assert trial.found == sorted(bad)
    assert {(one, one + 1) for one in bad} <= set(trial.tried)


@given(st.integers(2, 5000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))))
def test_one_bad_among_n_costs_at_most_two_tries_for_each_halving(case: tuple[int, int]) -> None:
    count, bad = case
    assert len(Trial(count, {bad}).tried) <= 2 * math.ceil(math.log2(count))


@given(st.integers(1, 200))
def test_what_fails_only_together_makes_none_bad(count: int) -> None:
    assert Trial(count, set()).found == []

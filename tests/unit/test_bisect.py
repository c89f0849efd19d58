"""Splitting: which of many fail alone, and how many tries it takes to know."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hypothesis import assume, given
from hypothesis import strategies as st

from writebehind.flusher.bisect import PIECES, Stretch, isolate

TOLD = st.sampled_from(["nothing", "where", "wrong"])


class Trial:
    """Things of which some are bad; counts what is tried, and in how many calls.

    `told`: what is said of the place at which a stretch failed.
    """

    def __init__(self, count: int, bad: set[int], told: str = "nothing") -> None:
        self.bad = bad
        self.told = told
        self.tried: list[Stretch] = []
        self.calls = 0
        self.found = isolate(count, self._failures)

    def _failures(self, stretches: Sequence[Stretch]) -> list[int | None]:
        assert list(stretches) == sorted(stretches)
        assert stretches
        self.calls += 1
        self.tried += stretches
        return [self._failure(start, end) for start, end in stretches]

    def _failure(self, start: int, end: int) -> int | None:
        failed_at = min((one for one in self.bad if start <= one < end), default=None)
        if failed_at is None or self.told == "where":
            return failed_at
        return start if self.told == "nothing" else start + (failed_at * 7919 + end) % (end - start + 2)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))), TOLD)
def test_exactly_the_bad_ones_are_found_and_every_other_one_passes_once(case: tuple[int, set[int]], told: str) -> None:
    count, bad = case
    trial = Trial(count, bad, told)
    assert trial.found == sorted(bad)
    passed = [one for start, end in trial.tried for one in range(start, end) if bad.isdisjoint(range(start, end))]
    assert sorted(passed) == sorted(set(range(count)) - bad)


@given(st.integers(2, 5000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1) | st.just(n - 1))), TOLD)
def test_one_bad_among_n_costs_little_more_than_one_try_for_each_halving(case: tuple[int, int], told: str) -> None:
    count, bad = case
    trial = Trial(count, {bad}, told)
    halvings = math.ceil(math.log2(count))
    assert len(trial.tried) <= min(2 * halvings, halvings + 5)
    assert trial.calls <= halvings + 2


@given(st.integers(8, 5000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))))
def test_one_bad_whose_place_is_told_costs_the_same_in_any_number(case: tuple[int, int]) -> None:
    count, bad = case
    assume(bad not in {count * piece // PIECES for piece in range(PIECES)})  # "at the start" tells nothing
    assert len(Trial(count, {bad}, "where").tried) <= PIECES + 3


@given(st.integers(2, 600).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=2))))
def test_several_bad_ones_cost_little_more_each_than_one_in_their_share(case: tuple[int, set[int]]) -> None:
    count, bad = case
    trial = Trial(count, bad)
    assert len(trial.tried) <= len(bad) * (math.ceil(math.log2(count / len(bad) + 1)) + 4 + 16)


@given(st.integers(1, 600))
def test_if_all_are_bad_few_tries_are_spent_on_learning_that(count: int) -> None:
    trial = Trial(count, set(range(count)))
    assert trial.found == list(range(count))
    assert len(trial.tried) <= 2 * count


@given(st.integers(1, 200))
def test_what_fails_only_together_makes_none_bad(count: int) -> None:
    assert Trial(count, set()).found == []

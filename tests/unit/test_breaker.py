"""The circuit breaker, with the clock in the test's hand."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from writebehind.producer.breaker import Breaker


def opened_at(now: float) -> Breaker:
    breaker = Breaker(failures_max=3, open_s=10)
    for _ in range(3):
        assert breaker.allows(now)
        breaker.failed(now)
    return breaker


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(failures_max=3, open_s=10)
    for _ in range(5):
        breaker.failed(0)
        breaker.failed(0)
        breaker.succeeded()
    assert breaker.allows(0)


def test_while_open_nothing_passes_until_the_time_is_up() -> None:
    breaker = opened_at(100)
    assert not breaker.allows(100)
    assert not breaker.allows(109.9)
    assert breaker.allows(110)


def test_one_call_probes_and_the_others_go_on_without() -> None:
    breaker = opened_at(100)
    assert [breaker.allows(110) for _ in range(3)] == [True, False, False]


def test_a_probe_that_succeeds_closes_it() -> None:
    breaker = opened_at(100)
    assert breaker.allows(110)
    breaker.succeeded()
    assert [breaker.allows(110) for _ in range(3)] == [True, True, True]


def test_a_probe_that_fails_opens_it_for_another_while() -> None:
    breaker = opened_at(100)
    assert breaker.allows(110)
    breaker.failed(111)
    assert not breaker.allows(120)
    assert breaker.allows(121)


def test_a_probe_whose_caller_was_cancelled_leaves_the_probe_to_another() -> None:
    breaker = opened_at(100)
    assert breaker.allows(110)
    assert not breaker.allows(110)
    breaker.withdrawn()
    assert breaker.allows(110)


def test_cancelled_calls_never_open_it() -> None:
    breaker = Breaker(failures_max=3, open_s=10)
    for _ in range(100):
        assert breaker.allows(0)
        breaker.withdrawn()
    assert breaker.allows(0)


@given(st.lists(st.sampled_from(["fail", "succeed", "withdraw"]), max_size=30))
def test_whatever_happened_a_call_passes_again_after_the_wait(outcomes: list[str]) -> None:
    breaker, now = Breaker(failures_max=2, open_s=1), 0.0
    for outcome in outcomes:
        now += 2
        assert breaker.allows(now)
        if outcome == "fail":
            breaker.failed(now)
        elif outcome == "succeed":
            breaker.succeeded()
        else:
            breaker.withdrawn()

"""Making a failing plan small: operations and faults go as long as it still fails in the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from .plan import Plan

T = TypeVar("T")

SCHEDULES = 12  # how many orders of events are tried for a plan that lost a part


def shrunk(plan: Plan, fails: Callable[[Plan], bool], *, tries_max: int = 3_000) -> Plan:
    """The smallest plan found that still fails. What is left out changes who goes on when, so some orders are tried."""
    left = tries_max

    def still_fails(candidate: Plan) -> Plan | None:
        nonlocal left
        for schedule in (candidate.schedule, *range(SCHEDULES)):
            left -= 1
            tried = replace(candidate, schedule=schedule)
            if left > 0 and fails(tried):
                return tried
        return None

    best = plan
    while True:
        before = best
        for part in ("faults", "ops"):
            best = _without(best, part, still_fails)
        if best == before or left <= 0:
            return best


def _without(plan: Plan, part: str, still_fails: Callable[[Plan], Plan | None]) -> Plan:
    """The plan without as many of its faults, or operations, as can go: halves first, then one by one."""
    size = max(1, len(getattr(plan, part)) // 2)
    while True:
        at = 0
        while at < len(getattr(plan, part)):
            smaller = still_fails(_with(plan, part, _cut(getattr(plan, part), at, size)))
            if smaller is None:
                at += size
            else:
                plan = smaller
        if size == 1:
            return plan
        size //= 2


def _with(plan: Plan, part: str, things: Any) -> Plan:
    return replace(plan, ops=things) if part == "ops" else replace(plan, faults=things)


def _cut(things: Sequence[T], at: int, size: int) -> tuple[T, ...]:
    return (*things[:at], *things[at + size :])

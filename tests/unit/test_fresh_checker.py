"""The checker of registers finds what is wrong, and nothing else."""

from __future__ import annotations

import pytest

from tests.faults.checkers import Fault
from tests.faults.checkers_cache import check_fresh
from tests.faults.histories import Op, Outcome, Read

FIRST = Op("w", 1, "write", 1, {"v": "a"}, 1.0, 2.0, Outcome.OK, 10)
SECOND = Op("w", 2, "write", 1, {"v": "b"}, 3.0, 4.0, Outcome.OK, 20)
FAILED = Op("w", 3, "write", 1, {"v": "c"}, 1.0, 2.0, Outcome.FAIL)
UNKNOWN = Op("w", 4, "write", 1, {"v": "d"}, 1.0)


def read(value: str | None, invoked: float, ended: float, key: int = 1) -> Read:
    return Read("r", key, {"v": value}, invoked, ended)


def faults(*reads: Read, monotonic: bool = True) -> list[Fault]:
    ops = [FIRST, SECOND, FAILED, UNKNOWN]
    return [violation.fault for violation in check_fresh("w10", ops, reads, "v", monotonic=monotonic)]


@pytest.mark.parametrize(
    "reads",
    [
        [read(None, 0.5, 1.5), read("a", 1.5, 1.6), read("a", 2.5, 3.5), read("b", 3.2, 3.3), read("b", 5, 6)],
        [read("a", 3.5, 4.5)],  # it began before the second was acknowledged
        [read("b", 3.1, 3.9), read("a", 3.2, 3.8)],  # at the same time
        [read("d", 9, 10)],  # unknown: it may be the newest
        [read(None, 9, 10, key=2)],
    ],
)
def test_what_a_register_may_show_is_no_violation(reads: list[Read]) -> None:
    assert faults(*reads) == []


@pytest.mark.parametrize(
    ("value", "invoked", "fault"),
    [
        (None, 2.1, Fault.STALE),
        ("a", 4.1, Fault.STALE),
        ("c", 5.0, Fault.PHANTOM),
        ("x", 5.0, Fault.PHANTOM),
        ("b", 0.1, Fault.PHANTOM),
    ],
)
def test_what_it_may_not_show_is_found(value: str | None, invoked: float, fault: Fault) -> None:
    assert faults(read(value, invoked, invoked + 0.5)) == [fault]


def test_what_another_reader_saw_is_the_least_that_a_later_one_may_see() -> None:
    reads = [read("b", 3.1, 3.2), read("a", 3.3, 3.4)]
    assert faults(*reads) == [Fault.STALE]
    assert faults(*reads, monotonic=False) == []

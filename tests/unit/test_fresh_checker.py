"""The checker of registers finds what is wrong, and nothing else."""

from __future__ import annotations

import pytest

from tests.faults.checkers import Fault
from tests.faults.checkers_cache import Window
from tests.faults.checkers_fresh import check_fresh
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


def unversioned(*parts: tuple[str | None, float, float], outcome: Outcome = Outcome.OK) -> list[Op]:
    """Writes of a row without versions; None is a delete."""
    return [
        Op("w", n, "write", 1, {} if value is None else {"v": value}, invoked, ended, outcome, 0)
        for n, (value, invoked, ended) in enumerate(parts)
    ]


def unversioned_faults(ops: list[Op], *reads: Read, windows: tuple[Window, ...] = ()) -> list[Fault]:
    return [violation.fault for violation in check_fresh("w9", ops, reads, "v", windows=windows)]


def test_without_versions_what_ended_before_an_acknowledged_write_began_is_old() -> None:
    ops = unversioned(("a", 1, 2), ("b", 3, 4), ("c", 3.5, 4.5))
    assert unversioned_faults(ops, read("a", 4.1, 4.2), read(None, 4.1, 4.2)) == [Fault.STALE, Fault.STALE]
    assert unversioned_faults(ops, read("b", 5, 6), read("c", 5, 6)) == []  # they were under way at the same time


def test_after_a_delete_there_is_no_row_and_after_another_write_there_is() -> None:
    ops = unversioned(("a", 1, 2), (None, 3, 4), ("b", 5, 6))
    assert unversioned_faults(ops, read(None, 4.5, 4.6), read(None, 5.5, 5.6), read("b", 6.1, 6.2)) == []
    assert unversioned_faults(ops, read("a", 4.5, 4.6), read(None, 6.5, 6.6)) == [Fault.STALE, Fault.STALE]


def test_a_read_is_excused_while_invalidations_wait_and_a_phantom_never_is() -> None:
    ops = unversioned(("a", 1, 2), ("b", 3, 4))
    window = Window(3.5, 8.0)
    assert unversioned_faults(ops, read("a", 5, 6), read("a", 7.9, 9), windows=(window,)) == []
    assert unversioned_faults(ops, read("a", 8.1, 9), read("x", 5, 6), windows=(window,)) == [
        Fault.STALE,
        Fault.PHANTOM,
    ]

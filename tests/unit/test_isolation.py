"""Which records of a refused batch are at fault."""

from __future__ import annotations

from collections.abc import Sequence

from tests.integration.flusher_entities import Strict
from writebehind.flusher.isolation import find_refused
from writebehind.shared.declaration import declaration_of
from writebehind.shared.fold import exact_sum
from writebehind.shared.record import Row

DECLARATION = declaration_of(Strict)
REFUSED = ValueError("refused")


class Balances:
    """A table whose amounts may not fall below zero, and whose deltas must fit; writes what it does not refuse."""

    def __init__(self) -> None:
        self.amounts: dict[int, int] = {}

    def attempt(self, rows: Sequence[Row]) -> BaseException | None:
        after = dict(self.amounts)
        for key in {row[4] for row in rows}:
            delta = exact_sum([row[5] for row in rows if row[4] == key])
            after[key] = after.get(key, 0) + delta
            if after[key] < 0 or delta > 100:
                return REFUSED
        self.amounts = after
        return None


def record(version: int, key: int, amount: int) -> Row:
    return (DECLARATION.fingerprint, version, 0, 1, key, amount)


def test_a_bad_record_does_not_take_its_key_with_it() -> None:
    rows = [record(3, 1, 5), record(1, 1, 5), record(2, 1, -20), *(record(9, key, 1) for key in range(2, 40))]
    table = Balances()
    assert find_refused(DECLARATION, rows, table.attempt) == {2: REFUSED}
    assert table.amounts[1] == 10


def test_every_record_may_be_bad() -> None:
    rows = [record(1, key, -1) for key in range(7)]
    assert find_refused(DECLARATION, rows, Balances().attempt) == dict.fromkeys(range(7), REFUSED)


def test_records_that_fail_only_together_share_their_fate() -> None:
    rows = [record(1, 1, 60), record(2, 1, 60), record(1, 2, 1)]
    assert find_refused(DECLARATION, rows, Balances().attempt) == {0: REFUSED, 1: REFUSED}


def test_none_is_at_fault_when_all_pass_now() -> None:
    assert find_refused(DECLARATION, [record(1, key, 1) for key in range(5)], Balances().attempt) == {}

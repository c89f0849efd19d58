"""Which records of a refused batch are at fault."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.integration.flusher_entities import Item, Strict
from writebehind.flusher.isolation import find_refused
from writebehind.shared.declaration import declaration_of
from writebehind.shared.fold import Folded
from writebehind.shared.record import DELETE, Row

DECLARATION = declaration_of(Strict)
REFUSED = ValueError("refused")


class Balances:
    """A table whose amounts may not fall below zero, and whose deltas must fit; keeps what it does not refuse.

    `parents`: rows that need another one to be there already.
    """

    def __init__(self, parents: dict[int, int] | None = None) -> None:
        self.amounts: dict[int, int] = {}
        self.parents = parents or {}
        self.tries: list[list[int]] = []

    def attempt(self, parts: Iterable[Folded]) -> list[BaseException | None]:
        return [self._write(part) for part in parts]

    def _write(self, part: Folded) -> BaseException | None:
        self.tries.append(list(part.keys[0]))
        after = dict(self.amounts)
        for key, delta in zip(part.keys[0], part.values[0], strict=True):
            after[key] = after.get(key, 0) + delta
            if after[key] < 0 or delta > 100:
                return REFUSED
        if any(key in after and parent not in after for key, parent in self.parents.items()):
            return REFUSED
        self.amounts = after
        return None


def record(version: int, key: int, amount: int) -> Row:
    return (DECLARATION.fingerprint, version, 0, 1, key, amount)


def find(rows: list[Row], table: Balances, *, one_by_one: bool = False) -> dict[int, BaseException]:
    return find_refused(DECLARATION, rows, {}, table.attempt, one_by_one=one_by_one)


both = pytest.mark.parametrize("one_by_one", [False, True])


@both
def test_a_bad_record_does_not_take_its_key_with_it(*, one_by_one: bool) -> None:
    rows = [record(3, 1, 5), record(1, 1, 5), record(2, 1, -20), *(record(9, key, 1) for key in range(2, 40))]
    table = Balances()
    assert find(rows, table, one_by_one=one_by_one) == {2: REFUSED}
    assert table.amounts == {1: 10, **dict.fromkeys(range(2, 40), 1)}


@both
@pytest.mark.parametrize("bad", [{0}, {499}, {3, 4, 5}, {0, 250, 499}, set(range(0, 500, 7)), set(range(500))], ids=len)
def test_each_bad_key_is_found_and_the_others_are_written(bad: set[int], *, one_by_one: bool) -> None:
    table = Balances()
    rows = [record(1, key, -1 if key in bad else 1) for key in reversed(range(500))]
    assert set(find(rows, table, one_by_one=one_by_one)) == {499 - key for key in bad}
    assert table.amounts.keys() == set(range(500)) - bad


def test_one_bad_key_costs_one_try_more_than_to_isolate_it() -> None:
    table = Balances()
    assert find([record(1, key, -1 if key == 777 else 1) for key in range(1024)], table) == {777: REFUSED}
    assert len(table.tries) <= 2 * 10 + 1


@both
def test_records_that_fail_only_together_share_their_fate(*, one_by_one: bool) -> None:
    rows = [record(1, 1, 60), record(2, 1, 60), record(1, 2, 1)]
    assert find(rows, Balances(), one_by_one=one_by_one) == {0: REFUSED, 1: REFUSED}


@both
def test_none_is_at_fault_when_all_pass_now(*, one_by_one: bool) -> None:
    assert find([record(1, key, 1) for key in range(5)], Balances(), one_by_one=one_by_one) == {}


def test_a_key_that_needs_a_later_one_of_its_batch_is_not_at_fault() -> None:
    rows = [record(1, key, -1 if key == 3 else 1) for key in range(20)]
    assert find(rows, Balances(parents={2: 19, 5: 12})) == {3: REFUSED}


def test_one_by_one_each_key_is_written_after_those_before_it() -> None:
    table = Balances(parents={2: 19, 19: 1})
    assert find([record(1, key, 1) for key in range(20)], table, one_by_one=True) == {2: REFUSED}
    assert table.tries == [[key] for key in range(20)]


def test_a_delete_is_tried_with_its_key() -> None:
    declaration = declaration_of(Item)
    empty = [None] * len(declaration.fields)

    def row(version: int, key: int, *, mask: int) -> Row:
        return (declaration.fingerprint, version, 0, mask, key, *empty)

    parts: list[tuple[list[Any], list[Any]]] = []

    def attempt(given: Iterable[Folded]) -> list[BaseException | None]:
        found: list[BaseException | None] = []
        for part in given:
            keys, deletes = [list(column) for column in part.keys], [key for (key,), _ in part.deletes]
            parts.append((keys, deletes))
            found.append(REFUSED if 4 in deletes else None)
        return found

    rows = [
        row(1, 1, mask=1),
        row(2, 4, mask=DELETE),
        row(3, 2, mask=DELETE),
        row(4, 2, mask=1),
        row(1, 3, mask=1),  # older than its key's last delete: nothing is left of it
        row(6, 5, mask=DELETE),
    ]
    assert find_refused(declaration, rows, {"3": 5}, attempt) == {1: REFUSED}
    assert parts[:4] == [([[1]], []), ([[2]], [2]), ([[]], []), ([[]], [4, 5])]

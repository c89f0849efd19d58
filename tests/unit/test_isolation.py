"""Which records of a refused batch are at fault."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.integration.flusher_entities import Item, Strict
from writebehind.flusher.isolation import Refusal, write_all_but_refused
from writebehind.shared.declaration import declaration_of
from writebehind.shared.fold import Folded
from writebehind.shared.record import DELETE, Row

DECLARATION = declaration_of(Strict)
REFUSED = ValueError("refused")


class Balances:
    """A table whose amounts may not fall below zero, and whose deltas must fit; keeps what it does not refuse.

    `parents`: rows that need another one to be there already. `counting`: whether it tells how far a part came.
    """

    def __init__(self, parents: dict[int, int] | None = None, *, counting: bool = False) -> None:
        self.amounts: dict[int, int] = {}
        self.parents = parents or {}
        self.counting = counting
        self.tries: list[list[int]] = []

    def attempt(self, parts: Iterable[Folded]) -> list[Refusal | None]:
        return [self._write(part) for part in parts]

    def _write(self, part: Folded) -> Refusal | None:
        self.tries.append(list(part.keys[0]))
        after = dict(self.amounts)
        for written, (key, delta) in enumerate(zip(part.keys[0], part.values[0], strict=True)):
            after[key] = after.get(key, 0) + delta
            if after[key] < 0 or delta > 100:
                return Refusal(REFUSED, written if self.counting else 0)
        if any(key in after and parent not in after for key, parent in self.parents.items()):
            return Refusal(REFUSED, len(part.keys[0]) if self.counting else 0)  # as a foreign key is, at the end
        self.amounts = after
        return None


def record(version: int, key: int, amount: int) -> Row:
    return (DECLARATION.fingerprint, version, 0, 1, key, amount)


def write(rows: list[Row], table: Balances) -> dict[int, BaseException]:
    return write_all_but_refused(DECLARATION, rows, {}, table.attempt)


@pytest.fixture(params=[False, True], ids=["told nothing", "told how far"])
def table(request: pytest.FixtureRequest) -> Balances:
    return Balances(counting=request.param)


def test_a_bad_record_does_not_take_its_key_with_it(table: Balances) -> None:
    rows = [record(3, 1, 5), record(1, 1, 5), record(2, 1, -20), *(record(9, key, 1) for key in range(2, 40))]
    assert write(rows, table) == {2: REFUSED}
    assert table.amounts == {1: 10, **dict.fromkeys(range(2, 40), 1)}


@pytest.mark.parametrize("bad", [{0}, {499}, {3, 4, 5}, {0, 250, 499}, set(range(0, 500, 7)), set(range(500))], ids=len)
def test_each_bad_key_is_found_and_every_other_is_written_once(bad: set[int], table: Balances) -> None:
    rows = [record(1, key, -1 if key in bad else 1) for key in reversed(range(500))]
    assert set(write(rows, table)) == {499 - key for key in bad}
    assert table.amounts == dict.fromkeys(set(range(500)) - bad, 1)


@pytest.mark.parametrize("key", [0, 1, 511, 777, 1023])
def test_one_bad_key_costs_few_tries(key: int, table: Balances) -> None:
    assert write([record(1, k, -1 if k == key else 1) for k in range(1024)], table) == {key: REFUSED}
    assert len(table.tries) <= 2 * 10 + 1


def test_records_that_fail_only_together_are_written_one_by_one(table: Balances) -> None:
    assert write([record(1, 1, 60), record(2, 1, 60), record(1, 2, 1)], table) == {}
    assert table.amounts == {1: 120, 2: 1}


def test_none_is_at_fault_when_all_pass_now(table: Balances) -> None:
    assert write([record(1, key, 1) for key in range(5)], table) == {}
    assert table.amounts == dict.fromkeys(range(5), 1)


def test_a_key_that_needs_a_later_one_of_its_batch_is_not_at_fault(table: Balances) -> None:
    table.parents = {2: 19, 5: 12}
    rows = [record(1, key, -1 if key == 3 else 1) for key in range(20)]
    assert write(rows, table) == {3: REFUSED}
    assert table.amounts == dict.fromkeys(set(range(20)) - {3}, 1)


def test_a_delete_is_tried_with_its_key() -> None:
    declaration = declaration_of(Item)
    empty = [None] * len(declaration.fields)

    def row(version: int, key: int, *, mask: int) -> Row:
        return (declaration.fingerprint, version, 0, mask, key, *empty)

    parts: list[tuple[list[Any], list[Any]]] = []

    def attempt(given: Iterable[Folded]) -> list[Refusal | None]:
        found: list[Refusal | None] = []
        for part in given:
            keys, deletes = [list(column) for column in part.keys], [key for (key,), _ in part.deletes]
            parts.append((keys, deletes))
            found.append(Refusal(REFUSED, 0) if 4 in deletes else None)
        return found

    rows = [
        row(1, 1, mask=1),
        row(2, 4, mask=DELETE),
        row(3, 2, mask=DELETE),
        row(4, 2, mask=1),
        row(1, 3, mask=1),  # older than its key's last delete: nothing is left of it
        row(6, 5, mask=DELETE),
    ]
    assert write_all_but_refused(declaration, rows, {"3": 5}, attempt) == {1: REFUSED}
    assert parts[:4] == [([[1]], []), ([[2]], [2]), ([[]], []), ([[]], [4, 5])]

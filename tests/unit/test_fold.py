"""Fold: the facts that the rest of the flusher relies on, one at a time. The properties are in tests/properties."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import pytest

from writebehind.shared.declaration import Declaration, declaration_of
from writebehind.shared.entity import Entity, Key, Max, Min, Numeric, Sum, WriteBehind
from writebehind.shared.fold import Folded, exact_sum, fold
from writebehind.shared.record import Codec, Row


class Player(Entity, table="players", strategy=WriteBehind()):
    id: Annotated[int, Key]
    name: str | None = None
    score: Annotated[int, Sum] = 0
    best: Annotated[int | None, Max] = None
    worst: Annotated[int | None, Min] = None


class Seat(Entity, table="seats", strategy=WriteBehind()):
    hall: Annotated[str, Key]
    number: Annotated[int, Key]
    paid: Annotated[Decimal, Sum, Numeric(40, 2)]


class Item(Entity, table="items", strategy=WriteBehind(deletes=True)):
    id: Annotated[int, Key]
    title: str | None = None
    stock: Annotated[int, Sum] = 0


PLAYER, SEAT, ITEM = declaration_of(Player), declaration_of(Seat), declaration_of(Item)


def row(declaration: Declaration, key: Any, version: int, generation: int = 0, **patch: Any) -> Row:
    codec = Codec(declaration)
    pairs = [(column.position, value) for column, value in declaration.check_patch(patch)] if patch else []
    return codec.decode([codec.encode(version, generation, declaration.check_key(key), pairs)])[0]


def columns(folded: Folded) -> tuple[list[list[Any]], list[list[Any]], list[list[Any]]]:
    return [list(c) for c in folded.keys], [list(c) for c in folded.values], [list(c) for c in folded.versions]


def test_nothing_folds_to_nothing() -> None:
    for declaration in (PLAYER, ITEM):
        folded = fold(declaration, [])
        assert (folded.rows, folded.keys, folded.deletes, folded.settlement.keys) == (0, [], [], [])
        assert folded.settlement.sums == [[]]


def test_rows_are_sorted_by_key_so_that_two_flushers_lock_in_one_order() -> None:
    seats = [("b", 1), ("a", 10), ("a", 9), ("", 5)]
    folded = fold(SEAT, [row(SEAT, key, at, paid=at) for at, key in enumerate(seats, 1)])

    assert list(zip(*folded.keys, strict=True)) == [("", 5), ("a", 9), ("a", 10), ("b", 1)]
    assert folded.settlement.keys == ["|5", "a|9", "a|10", "b|1"]


def test_each_field_is_decided_by_its_own_newest_write() -> None:
    writes = [
        row(PLAYER, 1, 30, score=2),
        row(PLAYER, 1, 10, name="old", score=5, best=1),
        row(PLAYER, 1, 20, name=None, best=-7, worst=4),
    ]

    folded = fold(PLAYER, writes)

    assert columns(folded) == ([[1]], [[None], [7], [1], [4]], [[20]])


@pytest.mark.parametrize("copies", [1, 2, 9], ids=["distinct", "few repeat", "many repeat"])
def test_every_way_of_folding_gives_the_same(copies: int) -> None:
    writes = [
        row(PLAYER, key, 100 * n + key, name=f"{n}", score=1)
        for key in range(1, 6)
        for n in range(copies if key > 3 or copies > 2 else 1)
    ]

    folded = fold(PLAYER, list(reversed(writes)))

    counts = [copies if key > 3 or copies > 2 else 1 for key in range(1, 6)]
    assert columns(folded)[0] == [[1, 2, 3, 4, 5]]
    assert columns(folded)[1][:2] == [[f"{count - 1}" for count in counts], counts]
    assert columns(folded)[2] == [[100 * (count - 1) + key for key, count in enumerate(counts, 1)]]
    assert folded.settlement.counts == counts


def test_the_same_version_twice_is_decided_alike_in_any_order() -> None:
    one, other = row(PLAYER, 1, 10, name="a", score=1), row(PLAYER, 1, 10, name="b", score=1)

    assert columns(fold(PLAYER, [one, other])) == columns(fold(PLAYER, [other, one]))
    assert fold(PLAYER, [one, other]).values[1] == (2,)


def test_a_sum_of_decimals_keeps_every_digit() -> None:
    huge, tiny = Decimal("9" * 36 + ".00"), Decimal("0.01")

    folded = fold(
        SEAT, [row(SEAT, ("a", 1), version, paid=value) for version, value in enumerate([huge, tiny, -tiny, tiny], 1)]
    )

    assert list(folded.values[0]) == [Decimal("9" * 36 + ".01")]
    assert str(exact_sum([Decimal("1E+900"), Decimal("1E-900")]))[-1] == "1"


def test_a_delete_takes_what_is_older_than_itself() -> None:
    writes = [
        row(ITEM, 1, 10, title="old", stock=5),
        row(ITEM, 1, 20),
        row(ITEM, 1, 30, stock=2),
        row(ITEM, 2, 40, stock=1),
        row(ITEM, 2, 50),
    ]

    folded = fold(ITEM, writes)

    assert columns(folded) == ([[1]], [[None], [2]], [[None], [30]])
    assert folded.deletes == [((1,), 20), ((2,), 50)]


def test_what_a_known_delete_is_newer_than_stays_dead() -> None:
    folded = fold(ITEM, [row(ITEM, 1, 10, stock=5), row(ITEM, 1, 15), row(ITEM, 2, 10, stock=5)], {"1": 20, "2": 9})

    assert columns(folded)[0] == [[2]]
    assert folded.deletes == []
    assert sorted(zip(folded.settlement.keys, folded.settlement.counts, strict=True)) == [("1", 2), ("2", 1)]


def test_what_a_delete_took_is_settled_all_the_same() -> None:
    folded = fold(ITEM, [row(ITEM, 1, 10, 7, stock=5), row(ITEM, 1, 20, 7), row(ITEM, 1, 30, 9, stock=2)])

    settled = folded.settlement
    assert list(
        zip(settled.keys, settled.generations, settled.counts, settled.versions, settled.sums[0], strict=True)
    ) == [
        ("1", 7, 2, 20, 5),
        ("1", 9, 1, 30, 2),
    ]

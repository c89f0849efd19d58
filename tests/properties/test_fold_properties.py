"""Fold: whatever the order and the grouping, the same row as applying one record after another."""

from __future__ import annotations

import random
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.properties.histories import FIELDS, MORTAL, TALLY, Write, by_key, histories, outcome
from writebehind.shared.declaration import Declaration
from writebehind.shared.fold import Folded, exact_sum, fold

NOTHING = {"name": None, "note": None, "hits": 0, "best": None, "least": None}


def folded_rows(declaration: Declaration, folded: Folded) -> dict[int, tuple[dict[str, Any], dict[str, int]]]:
    """Per key: the values, and the versions of the fields that were written."""
    assert len(folded.keys) == (1 if folded.rows else 0)
    values = zip(*folded.values, strict=True)
    versions = zip(*folded.versions, strict=True)
    names = [c.name for c in declaration.versioned]
    return {
        key: (
            dict(zip(FIELDS, row, strict=True)),
            {name: version for name, version in zip(names, marks, strict=True) if version is not None},
        )
        for key, row, marks in zip(folded.keys[0] if folded.rows else (), values, versions, strict=True)
    }


def check(declaration: Declaration, writes: Sequence[Write], folded: Folded) -> None:
    rows = folded_rows(declaration, folded)
    expected = {key: state for key, own in by_key(writes).items() if (state := outcome(own, NOTHING)) is not None}
    assert list(rows) == sorted(expected)
    for key, state in expected.items():
        values, versions = rows[key]
        alive = {name for write in by_key(writes)[key] if write.version > deleted(writes, key) for name in write.patch}
        assert versions == {
            name: v for name, v in state.versions.items() if name in {c.name for c in declaration.versioned}
        }
        assert values == {name: state.values[name] if name in alive else None for name in FIELDS}


def deleted(writes: Sequence[Write], key: int) -> int:
    return max((write.version for write in writes if write.key == key and write.is_delete), default=0)


@given(histories(size_max=40), st.randoms())
def test_fold_in_any_order_is_the_model(writes: list[Write], chance: random.Random) -> None:
    rows = [write.row(TALLY) for write in writes]
    first = fold(TALLY, rows)
    chance.shuffle(rows)

    check(TALLY, writes, first)
    check(TALLY, writes, fold(TALLY, rows))
    assert first.deletes == []


@given(histories(deletes=True, size_max=40), st.randoms())
def test_fold_with_deletes_in_any_order_is_the_model(writes: list[Write], chance: random.Random) -> None:
    rows = [write.row(MORTAL) for write in writes]
    chance.shuffle(rows)
    folded = fold(MORTAL, rows)

    check(MORTAL, writes, folded)
    assert folded.deletes == [((key,), version) for key in sorted(by_key(writes)) if (version := deleted(writes, key))]


@given(histories(deletes=True), st.dictionaries(st.integers(1, 3), st.integers(1, 20)))
def test_a_tombstone_does_what_its_delete_in_the_batch_would_do(
    writes: list[Write], tombstones: dict[int, int]
) -> None:
    # The delete's version is between two writes', because a version is handed out once.
    buried = {str(key): version * 10 - 5 for key, version in tombstones.items()}
    spread = [Write(write.key, write.version * 10, write.generation, write.patch) for write in writes]
    known = fold(MORTAL, [write.row(MORTAL) for write in spread], buried)
    deletes = [Write(int(key), version, 0, {}) for key, version in buried.items()]

    check(MORTAL, [*spread, *deletes], known)
    for (key,), version in known.deletes:
        assert version > buried.get(str(key), 0)


@given(histories(deletes=True, size_max=40))
def test_settlement_accounts_for_every_record_and_every_delta(writes: list[Write]) -> None:
    for declaration, own in ((MORTAL, writes), (TALLY, [write for write in writes if not write.is_delete])):
        settlement = fold(declaration, [write.row(declaration) for write in own]).settlement

        told = {
            (key, generation): (count, version, total or 0)
            for key, generation, count, version, total in zip(
                settlement.keys,
                settlement.generations,
                settlement.counts,
                settlement.versions,
                settlement.sums[0],
                strict=True,
            )
        }
        expected: dict[tuple[str, int], tuple[int, int, int]] = {}
        for write in own:
            count, version, total = expected.get((str(write.key), write.generation), (0, 0, 0))
            expected[str(write.key), write.generation] = (
                count + 1,
                max(version, write.version),
                total + write.patch.get("hits", 0),
            )
        assert len(told) == len(settlement.keys)  # one entry per key and generation
        assert told == expected


@given(histories(), st.randoms())
def test_two_writes_of_one_version_fold_alike_in_any_order(writes: list[Write], chance: random.Random) -> None:
    rows = [Write(write.key, 5, write.generation, write.patch).row(TALLY) for write in writes]
    first = fold(TALLY, rows)
    chance.shuffle(rows)
    second = fold(TALLY, rows)

    assert folded_rows(TALLY, first) == folded_rows(TALLY, second)


@given(
    st.lists(
        st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**60), max_value=10**60, places=40), min_size=1
    ),
    st.randoms(),
)
def test_a_sum_of_decimals_is_exact_in_any_order(values: list[Decimal], chance: random.Random) -> None:
    expected = sum(map(Fraction, values))
    chance.shuffle(values)

    assert Fraction(exact_sum(values)) == expected


@given(st.lists(st.integers(), min_size=1))
def test_a_sum_of_ints_is_exact(values: list[int]) -> None:
    assert exact_sum(values) == sum(values)

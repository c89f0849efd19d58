"""The checker of a zombie run, fed with made-up notes: it finds rows of an old owner, and what went back."""

from __future__ import annotations

import pytest

from tests.faults.checkers_owners import Kind, Note, check_owners

TOPIC, OTHER, ROW = ("topic", 0), ("topic", 1), ("table", 7)


def claim(writer: int, epoch: int, offset: int = 0, place: tuple[str, int] = TOPIC) -> Note:
    return Note(Kind.CLAIM, writer, 900 + epoch, place, epoch, offset)


def batch(
    transaction: int, writer: int, epoch: int, offset: int, value: int, place: tuple[str, int] = TOPIC
) -> list[Note]:
    """A transaction that moves a partition's progress and writes a row."""
    return [
        Note(Kind.FLUSH, writer, transaction, place, epoch, offset),
        Note(Kind.ROW, writer, transaction, ROW, 0, value),
    ]


HANDED_OVER = [claim(0, 1), *batch(1, 0, 1, 10, 5), claim(1, 2, 10), *batch(2, 1, 2, 20, 6)]


@pytest.mark.parametrize(
    ("more", "from_old_owner", "gone_back"),
    [
        ([], 0, 0),
        ([claim(0, 3, 20), *batch(3, 0, 3, 30, 7)], 0, 0),  # it owns the partition again
        (batch(3, 0, 1, 30, 7), 2, 0),  # a zombie's progress and row, under the epoch it knew
        (batch(3, 0, 2, 30, 7), 2, 0),  # under the new owner's epoch, which is what the row says when nobody checks
        (batch(3, 1, 1, 30, 7), 1, 0),  # the owner, under an epoch that is over: its progress, not its row
        ([Note(Kind.ROW, 1, 3, ROW, 0, 7)], 1, 0),  # a row without progress
        ([Note(Kind.ROW, 0, 2, ROW, 0, 7)], 1, 0),  # somebody else's row in the owner's transaction
        (batch(3, 1, 2, 30, 5), 0, 1),  # the row is older than before
        (batch(3, 1, 2, 15, 7), 0, 1),  # progress goes back
        ([claim(0, 2, 20)], 0, 1),  # two owners of one epoch
        ([claim(0, 3, 10)], 0, 1),  # a claim that forgets what is flushed
    ],
)
def test_a_row_has_to_come_from_the_owner_of_its_partition(
    more: list[Note], from_old_owner: int, gone_back: int
) -> None:
    found = check_owners([*HANDED_OVER, *more])
    assert (found.rows_from_old_owner, found.gone_back) == (from_old_owner, gone_back)
    assert bool(found.examples) == bool(more and (from_old_owner or gone_back))


def test_a_row_is_an_old_owners_when_it_lost_its_partition_within_the_transaction() -> None:
    flush, row = batch(3, 1, 2, 30, 7)
    found = check_owners([*HANDED_OVER, flush, claim(0, 3, 30), row])
    assert found.rows_from_old_owner == 1


def test_a_transaction_of_two_partitions_needs_both() -> None:
    flush, row = batch(3, 1, 2, 30, 7)
    second = Note(Kind.FLUSH, 1, 3, OTHER, 1, 10)
    assert check_owners([*HANDED_OVER, claim(1, 1, 0, OTHER), flush, second, row]).rows_from_old_owner == 0
    assert check_owners([*HANDED_OVER, claim(0, 1, 0, OTHER), flush, second, row]).rows_from_old_owner == 2

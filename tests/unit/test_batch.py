"""Batches: what is in them, when they must go, and what is left when partitions leave. Time is a number."""

from __future__ import annotations

from typing import Any

import pytest

from writebehind.flusher.batch import Buffer, Limits, Span

LIMITS = Limits(rows_max=3, records_max=6, bytes_max=100, age_max_s=2.0)


def make() -> Buffer:
    return Buffer("topic", LIMITS, key_of=lambda row: row[0])


def add(buffer: Buffer, partition: int, first: int, *keys: Any, size_bytes: int = 1, now: float = 10.0) -> None:
    """Add records at consecutive offsets from `first`; a record is its key and its place."""
    rows = [(key, f"{partition}/{first + at}") for at, key in enumerate(keys)]
    buffer.add(Span(partition, 5, first, first + len(keys)), rows, [], size_bytes, now)


def test_an_empty_buffer_is_never_due() -> None:
    buffer = make()

    assert buffer.due_in(10**9) is None
    assert not buffer.full


def test_a_batch_is_due_when_its_first_record_is_old_enough() -> None:
    buffer = make()
    add(buffer, 0, 0, "a", now=10.0)
    add(buffer, 0, 1, "b", now=11.5)

    assert [buffer.due_in(now) for now in (10.0, 11.5, 12.0, 99.0)] == [2.0, 0.5, 0.0, 0.0]


@pytest.mark.parametrize(
    ("keys", "size_bytes", "full"),
    [("ab", 1, False), ("abc", 1, True), ("aaaaa", 1, False), ("aaaaaa", 1, True), ("a", 99, False), ("a", 100, True)],
    ids=["rows", "rows full", "records", "records full", "bytes", "bytes full"],
)
def test_a_batch_is_full_by_distinct_keys_records_or_bytes(keys: str, size_bytes: int, full: bool) -> None:
    buffer = make()
    add(buffer, 0, 0, *keys, size_bytes=size_bytes, now=10.0)

    assert buffer.full is full
    assert (buffer.due_in(10.0) == 0.0) is full


def test_a_batch_knows_the_records_of_each_partition() -> None:
    buffer = make()
    add(buffer, 0, 7, "a", "b")
    add(buffer, 1, 3, "c")
    add(buffer, 0, 9, "d")

    batch = buffer.take()

    assert batch.topic == "topic"
    assert [row[1] for row in batch.rows] == ["0/7", "0/8", "1/3", "0/9"]
    assert batch.runs == [(0, 2), (1, 1), (0, 1)]
    assert batch.spans == {0: Span(0, 5, 7, 10), 1: Span(1, 5, 3, 4)}
    assert batch.keys == {"a", "b", "c", "d"}
    assert batch.size_bytes == 3


def test_taking_a_batch_starts_a_new_one() -> None:
    buffer = make()
    add(buffer, 0, 0, "a", "b", "c", now=10.0)
    first = buffer.take()
    add(buffer, 0, 3, "a", now=50.0)

    assert len(first.rows) == 3
    assert buffer.due_in(50.0) == 2.0
    assert buffer.take().spans == {0: Span(0, 5, 3, 4)}
    assert buffer.due_in(50.0) is None


def test_dropping_partitions_keeps_the_others_as_they_were() -> None:
    buffer = make()
    add(buffer, 0, 7, "a", "b", now=10.0)
    add(buffer, 1, 3, "a", now=11.0)
    add(buffer, 2, 5, "x", now=11.0)
    add(buffer, 0, 9, "d", now=11.0)
    add(buffer, 1, 4, "e", now=11.0)

    buffer.drop({0, 2, 9})

    assert buffer.due_in(11.0) == 1.0
    batch = buffer.take()
    assert [row[1] for row in batch.rows] == ["1/3", "1/4"]
    assert batch.runs == [(1, 1), (1, 1)]
    assert batch.spans == {1: Span(1, 5, 3, 5)}
    assert batch.keys == {"a", "e"}


def test_dropping_partitions_that_are_not_there_changes_nothing() -> None:
    buffer = make()
    add(buffer, 0, 7, "a", "b")

    buffer.drop({1})

    assert len(buffer.take().rows) == 2


def test_a_buffer_whose_partitions_all_left_is_empty() -> None:
    buffer = make()
    add(buffer, 0, 0, "a", "b", "c", size_bytes=500)

    buffer.drop({0})

    assert buffer.due_in(10.0) is None
    assert not buffer.full
    assert buffer.take().size_bytes == 0


@pytest.mark.parametrize(
    ("lanes", "share"),
    [
        (1, (20_000, 100_000, 1_000_000)),
        (2, (20_000, 100_000, 1_000_000)),
        (4, (10_000, 50_000, 500_000)),
        (64, (625, 3_125, 31_250)),
    ],
)
def test_more_than_two_lanes_share_what_two_may_hold(lanes: int, share: tuple[int, int, int]) -> None:
    assert Limits(20_000, 100_000, 1_000_000, 0.2).of_each(lanes) == Limits(*share, 0.2)


def test_each_of_many_lanes_may_hold_something() -> None:
    assert Limits(1, 1, 1, 0.2).of_each(64) == Limits(1, 1, 1, 0.2)

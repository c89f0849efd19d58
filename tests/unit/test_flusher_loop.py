"""What the loop collects from what librdkafka delivers: every offset once, in order, and nothing past a gap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, Message
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.flusher_entities import Counter, Town
from writebehind.flusher.batch import Batch, Buffer, Limits
from writebehind.flusher.lane import Lane
from writebehind.flusher.loop import Loop, Route
from writebehind.flusher.membership import Membership, Owned
from writebehind.shared.declaration import declaration_of
from writebehind.shared.fold import key_getter
from writebehind.shared.record import Codec

TOPIC, FIRST = "writebehind.counter", 100
DECLARATION = declaration_of(Counter)
CODEC = Codec(DECLARATION)


class FakeMessage:
    """A record at an offset; its key is the offset too, so that a batch shows what was taken."""

    def __init__(self, offset: int, value: bytes | None = None) -> None:
        self._offset = offset
        self._value = value or CODEC.encode(offset, 0, (offset,), [(0, 1)])

    def error(self) -> None:
        return None

    def topic(self) -> str:
        return TOPIC

    def timestamp(self) -> tuple[int, int]:
        return TIMESTAMP_CREATE_TIME, 1_700_000_000_000

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes:
        return self._value


class FakeMembership:
    """Owns one partition; remembers why it was stopped."""

    def __init__(self) -> None:
        self.owned = {(TOPIC, 0): Owned(epoch=1, position=FIRST, topic_id="id", flushed=FIRST)}
        self.reasons: list[str] = []

    def stop(self, place: tuple[str, int], reason: str, *, drop: bool = True) -> None:
        assert not drop, "what was collected before must still be flushed"
        self.reasons.append(reason)
        del self.owned[place]

    def stop_at_gap(self, place: tuple[str, int], expected: int, offsets: Sequence[int]) -> None:
        self.stop(place, f"gap at {expected}", drop=False)


class FakeLane:
    """Only what collecting needs of a lane."""

    def __init__(self) -> None:
        self.declaration = DECLARATION
        self.buffer = Buffer(TOPIC, Limits(1000, 1000, 10**6, 1.0), key_getter(DECLARATION))


@pytest.fixture(autouse=True)
def plain_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop reads messages by unbound methods of librdkafka's class, which cannot be made in a test."""
    monkeypatch.setattr("writebehind.flusher.loop.Message", FakeMessage)


def collect(*fetches: Sequence[FakeMessage]) -> tuple[Batch, FakeMembership]:
    """Deliver several fetches; gives the batch that is collected and what the membership was told."""
    membership, lane = FakeMembership(), FakeLane()
    route = Route(DECLARATION, CODEC, [cast(Lane, lane)])
    loop = Loop({TOPIC: route}, cast(Membership, membership), fetch_max=1000)
    for messages in fetches:
        loop._distribute(cast(list[Message], list(messages)), 0.0)
    return lane.buffer.take(), membership


def taken(batch: Batch) -> list[Any]:
    return [row[4] for row in batch.rows]


def messages(*offsets: int) -> list[FakeMessage]:
    return [FakeMessage(offset) for offset in offsets]


@pytest.mark.parametrize(
    "fetches",
    [
        [(100, 101, 102)],
        [(100, 101), (101, 102)],  # one offset in two consecutive fetches
        [(100, 100, 101, 102)],  # twice in one
        [(98, 99, 100, 101, 102)],  # from before the offset that was claimed
        [(100, 101, 102), (100, 101, 102)],  # all of it again
        [(100, 102, 101)],
    ],
)
def test_each_offset_is_taken_once_and_in_order(fetches: list[tuple[int, ...]]) -> None:
    batch, membership = collect(*[messages(*offsets) for offsets in fetches])
    assert taken(batch) == [100, 101, 102]
    assert (batch.spans[0].expected, batch.spans[0].next) == (100, 103)
    assert membership.owned[TOPIC, 0].position == 103
    assert membership.reasons == []


@pytest.mark.parametrize("fetches", [[(101,)], [(100,), (102, 103)], [(100, 102)], [(100,), (99, 102)]])
def test_a_gap_stops_the_partition_and_nothing_past_it_is_taken(fetches: list[tuple[int, ...]]) -> None:
    batch, membership = collect(*[messages(*offsets) for offsets in fetches], messages(101, 102, 103, 104))
    assert taken(batch) in ([], [100])
    assert len(membership.reasons) == 1
    assert membership.owned == {}


def test_a_record_that_cannot_be_read_becomes_a_letter_and_the_others_are_taken() -> None:
    bad = FakeMessage(102, b"no record")
    batch, membership = collect([*messages(100, 101), bad, *messages(103)], messages(104))
    assert taken(batch) == [message.offset() for message in batch.messages] == [100, 101, 103, 104]
    assert [draft.message.offset() for draft in batch.letters] == [102]
    assert "it is not a record of counter" in batch.letters[0].cause.message
    assert (batch.spans[0].expected, batch.spans[0].next) == (100, 105)
    assert membership.reasons == []


def test_a_record_of_another_declaration_stops_the_partition_after_those_before_it() -> None:
    newer = FakeMessage(102, Codec(declaration_of(Town)).encode(1, 0, ("NL", "Delft"), [(1, "Ann")]))
    batch, membership = collect([*messages(100, 101), newer, *messages(103)], messages(104))
    assert taken(batch) == [100, 101]
    assert batch.letters == []
    assert (batch.spans[0].expected, batch.spans[0].next) == (100, 102)
    assert "another declaration" in membership.reasons[0]


@given(st.lists(st.tuples(st.integers(FIRST - 3, FIRST + 12), st.integers(1, 6)), max_size=12))
def test_whatever_is_delivered_what_is_taken_has_no_hole_and_no_repeat(stretches: list[tuple[int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("writebehind.flusher.loop.Message", FakeMessage)
        batch, _ = collect(*[messages(*range(start, start + count)) for start, count in stretches])
    assert taken(batch) == list(range(FIRST, FIRST + len(batch.rows)))

"""Gaps, and what moving a partition's progress by hand skips, repeats and cannot bring back."""

from __future__ import annotations

import pytest

from writebehind.flusher.gap import BY_HAND, Log, Progress, gap
from writebehind.flusher.move import Move, Standing, plan
from writebehind.shared.errors import ConfigurationError

PLACE = ("t", 3)
SET = "writebehind progress set t 3 --offset"


def stored(offset: int, topic_id: str = "a") -> Progress:
    return Progress(topic_id, offset, 1, "host:1")


@pytest.mark.parametrize("offset", [10, 15, 20])
def test_an_offset_within_the_log_is_no_gap(offset: int) -> None:
    assert gap(PLACE, stored(offset), Log("a", 10, 20)) is None


@pytest.mark.parametrize(
    ("progress", "records", "offset"),
    [(stored(15, "old"), None, "earliest"), (stored(7), 3, "earliest"), (stored(22), 2, "latest")],
)
def test_a_gap_names_its_size_and_ends_with_the_command_that_resolves_it(
    progress: Progress, records: int | None, offset: str
) -> None:
    found = gap(PLACE, progress, Log("a", 10, 20))
    assert found is not None
    assert (found.records, found.command) == (records, f"{SET} {offset}")
    assert str(found).startswith("t[3]: ")
    assert str(found).endswith(f"`{SET} {offset}`")


@pytest.mark.parametrize(
    ("progress", "wanted", "offset", "skipped", "repeated", "lost"),
    [
        (stored(15), "18", 18, 3, 0, 0),
        (stored(15), "15", 15, 0, 0, 0),
        (stored(15), "12", 12, 0, 3, 0),
        (stored(15), "earliest", 10, 0, 5, 0),
        (stored(15), "latest", 20, 5, 0, 0),
        (stored(7), "earliest", 10, 0, 0, 3),
        (stored(7), "12", 12, 2, 0, 3),
        (stored(22), "latest", 20, 0, 0, 2),
        (stored(22), "18", 18, 0, 2, 2),
        (stored(15, "old"), "earliest", 10, 0, 0, None),
        (stored(15, "old"), "12", 12, 2, 0, None),
        (None, "earliest", 10, 0, 0, 0),
        (None, "latest", 20, 10, 0, 0),
    ],
)
def test_what_a_move_does(
    progress: Progress | None, wanted: str, offset: int, skipped: int, repeated: int, lost: int | None
) -> None:
    before = None if progress is None else progress.next_offset
    expected = Move("t", 3, "a", before, offset, skipped, repeated, lost)
    assert plan(Standing(*PLACE, progress, Log("a", 10, 20)), wanted) == expected


@pytest.mark.parametrize("wanted", ["9", "21", "-1", "soon", "", "1.5"])
def test_an_offset_outside_the_log_is_refused(wanted: str) -> None:
    with pytest.raises(ConfigurationError):
        plan(Standing(*PLACE, stored(15), Log("a", 10, 20)), wanted)


def test_a_partition_that_the_broker_does_not_have_cannot_be_moved() -> None:
    with pytest.raises(ConfigurationError, match="no such partition"):
        plan(Standing(*PLACE, stored(15), None), "earliest")


def test_counting_twice_needs_consent() -> None:
    move = plan(Standing(*PLACE, stored(15), Log("a", 10, 20)), "12")
    with pytest.raises(ConfigurationError, match=r"3 records .* --repeat"):
        move.check(repeat=False)
    move.check(repeat=True)
    plan(Standing(*PLACE, stored(15), Log("a", 10, 20)), "18").check(repeat=False)


def test_only_a_row_moved_by_hand_counts_as_such() -> None:
    assert Progress("a", 1, 2, f"{BY_HAND}ada@host").by_hand
    assert not stored(1).by_hand

"""Each checker of the simulation reports a history that was made to break its promise, and not the sound one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.simulation.checkers import check
from tests.faults.simulation.entities import DECLARATIONS
from tests.faults.simulation.history import Call, History, Logged
from tests.faults.simulation.plan import Op, make
from tests.faults.simulation.table import TableRow


def sound() -> History:
    """Client 0 writes a name and a sum, then reads them; a poisoned write of client 1 became a letter."""
    history = History(make(0), DECLARATIONS[False])
    write, read = Op(1, 0, "update", 0, ("name", "score")), Op(2, 0, "read", 0)
    poison = Op(3, 1, "update", 0, ("name",), poison=True)
    seen = {"name": "v1", "note": None, "score": 4, "best": None}
    history.calls = [
        Call(write, 1, 2, "acknowledged", 10, cached=True),
        Call(read, 3, 4, seen=dict(seen), read=True),
        Call(poison, 5, 6, "acknowledged", 20, cached=True),
    ]
    history.log = [Logged(0, 0, 1, 0, 10, {"name": "v1", "score": 4}), Logged(0, 1, 3, 0, 20, {"name": "x3"})]
    history.rows = {0: TableRow(("v1", None, 4, None), (10, None))}
    history.flushed = {(0, 0): 2}
    history.letter_rows = history.letters_sent = {(0, 1)}
    history.entries = {0: {"name": "v1", "#v": "10"}}
    history.shown = {0: dict(seen)}
    return history


def lose(history: History) -> None:
    history.log = history.log[1:]


def lose_from_the_row(history: History) -> None:
    history.rows = {0: TableRow(("v1", None, 0, None), (10, None))}


def apply_twice(history: History) -> None:
    history.rows = {0: TableRow(("v1", None, 8, None), (10, None))}


def log_twice(history: History) -> None:
    history.log.append(Logged(0, 2, 1, 0, 10, {"name": "v1", "score": 4}))


def go_back(history: History) -> None:
    history.calls[2].version = 5


def keep_a_refused_value(history: History) -> None:
    history.entries[0]["name"] = "x3"


def apply_what_failed(history: History) -> None:
    history.calls[0].outcome = "failed"


def read_too_old(history: History) -> None:
    history.calls[1].seen = {"name": "old", "note": None, "score": 4, "best": None}


def skip_without_a_letter(history: History) -> None:
    history.letters_sent = set()


def refuse_a_good_record(history: History) -> None:
    history.letter_rows = history.letters_sent = {(0, 0), (0, 1)}


def show_another_row(history: History) -> None:
    history.shown = {0: {"name": "v1", "note": None, "score": 0, "best": None}}


def stay_pending(history: History) -> None:
    history.entries[0]["#p"] = "1"


def end_by_itself(history: History) -> None:
    history.errors.append("flusher 0.1 ended: KeyError")


def get_stuck(history: History) -> None:
    history.stuck = "progress 0 of 2"


@pytest.mark.parametrize(
    ("checker", "spoil"),
    [
        ("lost", lose),
        ("lost", lose_from_the_row),
        ("duplicated", apply_twice),
        ("duplicated", log_twice),
        ("regressed", go_back),
        ("phantom", keep_a_refused_value),
        ("phantom", apply_what_failed),
        ("stale", read_too_old),
        ("letters", skip_without_a_letter),
        ("letters", refuse_a_good_record),
        ("coherent", show_another_row),
        ("coherent", stay_pending),
        ("alive", end_by_itself),
        ("alive", get_stuck),
    ],
)
def test_a_broken_promise_is_reported(checker: str, spoil: Callable[[History], None]) -> None:
    history = sound()
    spoil(history)
    assert checker in {violation.checker for violation in check(history)}


def test_a_sound_history_breaks_no_promise() -> None:
    assert check(sound()) == []

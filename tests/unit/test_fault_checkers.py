"""The checkers of the fault runs, fed with made-up histories: each finds what breaks its promise, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.faults.checkers import (
    Fault,
    Violation,
    check_bank,
    check_counter,
    check_register,
    check_set,
    check_versions,
    never_succeeded,
)
from tests.faults.checkers_audit import Finding, check_audit
from tests.faults.checkers_cache import Window, check_cache, check_reads
from tests.faults.checkers_life import DeadLetter, check_churn, check_letters
from tests.faults.histories import Op, Outcome, Read, Sample, read

OK, FAIL, UNKNOWN = Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN


def op(
    number: int, values: dict[str, Any], outcome: Outcome = OK, *, kind: str = "write", key: int = 1, took: float = 0.5
) -> Op:
    """The `number`th write of a process: it begins at that second, and has that version."""
    ended = None if outcome is UNKNOWN else number + took
    place = (0, number) if outcome is OK else None
    return Op("p", number, kind, key, values, float(number), ended, outcome, number, place)


def faults(found: list[Violation]) -> list[Fault]:
    return [violation.fault for violation in found]


SET = [op(1, {"body": "a"}), op(2, {"body": "b"}, FAIL, key=2), op(3, {"body": "c"}, UNKNOWN, key=3)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ({1: "a"}, []),
        ({1: "a", 3: "c"}, []),  # an unknown write may be there
        ({}, [Fault.LOST]),
        ({1: "other"}, [Fault.LOST]),
        ({1: "a", 2: "b"}, [Fault.PHANTOM]),  # it was refused
        ({1: "a", 9: "z"}, [Fault.PHANTOM]),  # nobody wrote it
    ],
)
def test_set(rows: dict[int, str], expected: list[Fault]) -> None:
    assert faults(check_set("set", SET, {key: {"body": body} for key, body in rows.items()})) == expected


@pytest.mark.parametrize(
    ("ops", "final", "expected"),
    [
        ([op(1, {"value": 10}), op(2, {"value": 20})], 20, []),
        ([op(1, {"value": 10}), op(2, {"value": 20})], 10, [Fault.REGRESSED]),
        ([op(1, {"value": 10}), op(2, {"value": 20})], None, [Fault.LOST]),
        ([op(1, {"value": 10}), op(2, {"value": 20})], 30, [Fault.PHANTOM]),
        ([op(1, {"value": 10}), op(2, {"value": 20}, FAIL)], 20, [Fault.PHANTOM]),
        ([op(1, {"value": 10}), op(2, {"value": 20}, UNKNOWN)], 20, []),
        ([op(1, {"value": 10}), op(2, {"value": 20}, UNKNOWN)], 10, []),
        ([op(1, {"value": 10}, UNKNOWN), op(2, {"value": 20})], 10, [Fault.REGRESSED]),  # its version is older
        ([op(1, {"value": 10}, UNKNOWN)], None, []),
        # Of two writes at the same time the version decides, not who was told first.
        ([op(1, {"value": 10}, took=5), op(2, {"value": 20}, took=1)], 10, [Fault.REGRESSED]),
    ],
)
def test_register(ops: list[Op], final: int | None, expected: list[Fault]) -> None:
    assert faults(check_register("register", ops, {1: {"value": final}}, ["value"])) == expected


def test_register_checks_each_field_and_finds_rows_of_nobody() -> None:
    ops = [op(1, {"a": 10}), op(2, {"b": 20})]
    assert check_register("patches", ops, {1: {"a": 10, "b": 20}}, ["a", "b"]) == []
    assert faults(check_register("patches", ops, {1: {"a": None, "b": 20}}, ["a", "b"])) == [Fault.LOST]
    assert faults(check_register("patches", ops, {1: {"a": 10, "b": 20}, 2: {}}, ["a", "b"])) == [Fault.PHANTOM]
    assert faults(check_register("patches", ops, {}, ["a", "b"])) == [Fault.LOST, Fault.LOST]


def test_a_version_that_goes_back_is_seen_by_whoever_looks() -> None:
    forward = [Sample(1.0, {1: 5, 2: 7}, []), Sample(2.0, {1: 6}, [])]
    assert check_versions("register", forward) == []
    assert faults(check_versions("register", [*forward, Sample(3.0, {2: 6}, [])])) == [Fault.REGRESSED]


COUNTER = [op(1, {"slot": 0}), op(2, {"slot": 1}, FAIL), op(3, {"slot": 2}, UNKNOWN), op(4, {"slot": 3})]


@pytest.mark.parametrize(
    ("slots", "hits", "expected"),
    [
        ([0, 3], 2, []),
        ([0, 2, 3], 3, []),  # the unknown one is there
        ([3], 1, [Fault.LOST]),
        ([0, 0, 3], 3, [Fault.DUPLICATED]),
        ([0, 2, 2, 3], 4, [Fault.DUPLICATED]),  # once at the most
        ([0, 1, 3], 3, [Fault.PHANTOM]),  # it was refused
        ([0, 3, 4], 3, [Fault.PHANTOM, Fault.PHANTOM]),
        ([0, 3], 3, [Fault.PHANTOM]),
        ([], 0, [Fault.LOST, Fault.LOST]),
    ],
)
def test_counter(slots: list[int], hits: int, expected: list[Fault]) -> None:
    rows = {1: {"hits": hits, "ledger": sum(8**slot for slot in slots)}}
    assert faults(check_counter("counter", COUNTER, rows)) == expected


BANK = [op(1, {"amount": 100}), op(2, {"amount": 30}, UNKNOWN), op(3, {"amount": 7}, FAIL)]


@pytest.mark.parametrize(
    ("payer", "payee", "expected"),
    [
        (-100, 100, []),
        (-130, 130, []),
        (-130, 100, [Fault.PHANTOM]),
        (-99, 99, [Fault.LOST]),
        (-131, 131, [Fault.DUPLICATED]),
    ],
)
def test_bank(payer: int, payee: int, expected: list[Fault]) -> None:
    assert faults(check_bank("bank", BANK, {1: {"payer": payer, "payee": payee}}, [])) == expected


def test_bank_finds_half_a_transfer_in_a_snapshot() -> None:
    found = check_bank("bank", BANK, {1: {"payer": -100, "payee": 100}}, [Sample(1.0, {}, []), Sample(2.0, {}, [1])])
    assert faults(found) == [Fault.PHANTOM]


def put(number: int, outcome: Outcome = OK) -> Op:
    return op(number, {"label": number}, outcome, kind="put")


def delete(number: int, outcome: Outcome = OK) -> Op:
    return op(number, {}, outcome, kind="delete")


@pytest.mark.parametrize(
    ("ops", "row", "expected"),
    [
        ([put(1), delete(2), put(3)], (3, 1), []),
        ([put(1), delete(2), put(3)], (3, 2), [Fault.REGRESSED]),  # counted over the delete
        ([put(1), delete(2), put(3)], None, [Fault.LOST]),
        ([put(1), delete(2)], None, []),
        ([put(1), delete(2)], (1, 1), [Fault.REGRESSED]),  # it came back
        ([put(1), put(2)], (2, 2), []),
        ([put(1), put(2)], (1, 2), [Fault.LOST]),
        ([put(1), put(2)], (2, 1), [Fault.LOST]),
        ([put(1), put(2)], (2, 3), [Fault.DUPLICATED]),
        ([put(1), put(2)], (9, 2), [Fault.PHANTOM]),
        ([put(1), delete(2, UNKNOWN)], (1, 1), []),
        ([put(1), delete(2, UNKNOWN)], None, []),
        ([put(1), delete(2, UNKNOWN), put(3)], (3, 1), []),
        ([put(1), delete(2, UNKNOWN), put(3)], (3, 2), []),
        ([put(1), put(2, UNKNOWN)], (2, 2), []),
        ([put(1), put(2, UNKNOWN)], (1, 1), []),
        ([put(1), put(2, FAIL)], (2, 2), [Fault.DUPLICATED]),
    ],
)
def test_churn(ops: list[Op], row: tuple[int, int] | None, expected: list[Fault]) -> None:
    rows = {} if row is None else {1: {"label": row[0], "visits": row[1]}}
    assert faults(check_churn("churn", ops, rows)) == expected


GRADES = [op(1, {"mark": 5}), op(2, {"mark": -6}), op(3, {"mark": -7}, UNKNOWN, key=2)]


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        ([DeadLetter(1, 0, 2)], []),
        ([DeadLetter(1, 0, 2), DeadLetter(2, 0, 9)], []),  # the unknown one was refused as well
        ([], [Fault.LOST]),
        ([DeadLetter(1, 0, 2), DeadLetter(1, 0, 2)], [Fault.DUPLICATED, Fault.PHANTOM]),
        ([DeadLetter(1, 0, 2), DeadLetter(1, 0, 1)], [Fault.PHANTOM]),  # of a record that is right
        ([DeadLetter(1, 0, 2), DeadLetter(8, 0, 4)], [Fault.PHANTOM]),
    ],
)
def test_letters(letters: list[DeadLetter], expected: list[Fault]) -> None:
    assert faults(check_letters("poison", GRADES, letters)) == expected


def test_a_refused_mark_that_a_newer_one_was_folded_over_needs_no_letter() -> None:
    newer = op(4, {"mark": 8})
    assert check_letters("poison", [GRADES[1], newer], []) == []
    assert faults(check_letters("poison", [GRADES[0], GRADES[1], op(4, {"mark": 8}, FAIL)], [])) == [Fault.LOST]


STEPS = [op(1, {"step": 10}), op(2, {"step": 20}), op(3, {"step": 30}, FAIL), op(4, {"step": 40}, UNKNOWN)]


@pytest.mark.parametrize(
    ("value", "at", "expected"),
    [
        (20, 2.8, []),
        (10, 2.8, [Fault.STALE]),
        (None, 2.8, [Fault.STALE]),
        (99, 2.8, [Fault.STALE]),
        (10, 1.8, []),
        (10, 2.2, []),  # while the second write is under way
        (20, 2.2, []),
        (30, 3.8, [Fault.PHANTOM]),
        (40, 4.8, []),
        (None, 0.5, []),
    ],
)
def test_reads(value: int | None, at: float, expected: list[Fault]) -> None:
    reads = [Read("p", 1, None if value is None else {"step": value}, at, at + 0.1)]
    assert faults(check_reads("coherence", STEPS, reads, "step", [])) == expected


def test_a_stale_read_counts_unless_the_cache_was_lost_between_the_write_and_the_read() -> None:
    reads = [Read("p", 1, {"step": 10}, 2.8, 2.9)]
    assert check_reads("coherence", STEPS, reads, "step", [Window(2.6, 2.7)]) == []
    assert faults(check_reads("coherence", STEPS, reads, "step", [Window(0.1, 1.9)])) == [Fault.STALE]
    assert faults(check_reads("coherence", STEPS, reads, "step", [Window(3.0, 4.0)])) == [Fault.STALE]


def test_a_cache_that_is_not_its_row_is_stale() -> None:
    cached = {1: {"step": 1}, 2: {"step": 1}, 3: None, 4: None}
    rows = {1: {"step": 1}, 2: {"step": 2}, 3: {"step": 3}}
    found = check_cache("coherence", cached, rows)
    assert [(one.fault, one.key) for one in found] == [(Fault.STALE, 2), (Fault.STALE, 3)]


def test_drift_that_nobody_caused_is_a_false_alarm() -> None:
    findings = [
        Finding(1, "coherence", key, verdict, "") for key, verdict in [(1, "differs"), (2, "stale"), (3, "unsettled")]
    ]
    found = check_audit(findings, {"coherence": {1}, "churn": {2}})
    assert [(one.fault, one.key) for one in found] == [(Fault.FALSE_ALARM, 2)]


def test_a_kind_of_write_that_never_succeeded() -> None:
    ops = [op(1, {}, FAIL), op(2, {}, OK), op(3, {}, UNKNOWN, kind="delete")]
    assert never_succeeded("churn", ["write", "delete", "put"], ops) == [
        "churn: no delete was ever acknowledged",
        "churn: no put was ever acknowledged",
    ]


def line(**content: Any) -> str:
    return json.dumps({"t": 1.0, "w": 1.0, **content}) + "\n"


def test_a_history_is_read_back_and_what_has_no_answer_is_unknown() -> None:
    lines = [
        line(e="invoke", op=1, kind="set", writes=[[1, {"body": "a"}], [2, {"body": "b"}]]),
        line(e="end", op=1, told=["ok", "fail"], versions=[5, None]),
        line(e="invoke", op=2, kind="set", writes=[[3, {"body": "c"}]]),
        line(e="read", key=1, value=None, began=0.5),
        line(e="sample", versions=[[1, 5]], torn=[]),
        line(e="unexpected", error="TypeError"),
        '{"t": 2.0, "e": "end", "op": 2, "to',  # the process was killed while it wrote
    ]
    history = read("set-0", lines)
    assert [(one.key, one.outcome, one.version) for one in history.ops] == [
        (1, OK, 5),
        (2, FAIL, None),
        (3, UNKNOWN, None),
    ]
    assert [one.key for one in history.reads] == [1]
    assert [one.versions for one in history.samples] == [{1: 5}]
    assert history.unexpected == ["TypeError"]

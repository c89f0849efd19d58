"""Checkers of rows that come and go (W6) and of rows that the table refuses (W7). Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.faults.checkers import Fault, Rows, Violation, by_key
from tests.faults.histories import Op, Outcome, Values


def check_churn(workload: str, ops: Iterable[Op], rows: Rows) -> list[Violation]:
    """W6: each key has one writer, which waits for its answers: what is left is the story since the last delete.

    A delete of unknown outcome may or may not be part of the story, so each such story is tried.
    """
    found: list[Violation] = []
    keys = by_key(ops)
    for key, writes in keys.items():
        possible = [op for op in writes if op.outcome is not Outcome.FAIL]
        stories = _stories(possible)
        row = rows.get(key)
        if any(_fits(story, row) for story in stories):
            continue
        found.append(Violation(_churn_fault(writes, stories[0], row), workload, key, _tell(stories[0], row)))
    return found + [Violation(Fault.PHANTOM, workload, key, "nobody's row") for key in rows if key not in keys]


def _stories(ops: Sequence[Op]) -> list[list[Op]]:
    """The writes after the last delete that is certain, then after each later one that is not."""
    certain = max((at for at, op in enumerate(ops) if _deletes(op) and op.outcome is Outcome.OK), default=-1)
    starts = [certain] + [at for at, op in enumerate(ops) if at > certain and _deletes(op)]
    return [[op for op in ops[start + 1 :] if not _deletes(op)] for start in starts]


def _fits(story: Sequence[Op], row: Values | None) -> bool:
    certain = [at for at, op in enumerate(story) if op.outcome is Outcome.OK]
    if row is None:
        return not certain
    # The label is that of the last certain put, or of an uncertain one after it.
    labels = {op.values["label"] for op in story[certain[-1] if certain else 0 :]}
    return row["label"] in labels and max(1, len(certain)) <= row["visits"] <= len(story)


def _churn_fault(writes: Sequence[Op], story: Sequence[Op], row: Values | None) -> Fault:
    if row is None:
        return Fault.LOST
    if row["visits"] > len(story):
        return Fault.REGRESSED if any(_deletes(op) for op in writes) else Fault.DUPLICATED
    if any(op.values.get("label") == row["label"] for op in writes if op.outcome is not Outcome.FAIL):
        return Fault.LOST if any(op.values["label"] == row["label"] for op in story) else Fault.REGRESSED
    return Fault.PHANTOM


def _tell(story: Sequence[Op], row: Values | None) -> str:
    told = [(op.values["label"], str(op.outcome), op.version) for op in story[-3:]]
    return f"the row is {row} after {len(story)} puts since the last delete, the last of them {told}"


def _deletes(op: Op) -> bool:
    return op.kind == "delete"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A letter that counts: its record was skipped in a transaction that was committed."""

    key: int
    partition: int
    offset: int


def check_letters(workload: str, ops: Iterable[Op], letters: Sequence[DeadLetter]) -> list[Violation]:
    """W7: a mark below zero becomes one dead letter and nothing else; every other one lands.

    One that a newer mark of its key was folded over, in the same batch, never met the table and has no letter.
    """
    keys = by_key(ops)
    counted = Counter((letter.partition, letter.offset) for letter in letters)
    of_key = Counter(letter.key for letter in letters)
    found = [
        Violation(Fault.DUPLICATED, workload, at[1], f"{count} letters of record {at}")
        for at, count in counted.items()
        if count > 1
    ]
    for key, writes in keys.items():
        poison = [op for op in writes if op.values["mark"] < 0]
        certain = [op for op in poison if op.outcome is Outcome.OK]
        unknown = sum(op.outcome is Outcome.UNKNOWN for op in poison)
        found += [
            Violation(Fault.LOST, workload, key, f"no letter of refused record {op.place}, version {op.version}")
            for op in certain
            if op.place is not None and not counted[op.place] and not _may_be_folded_over(op, writes)
        ]
        if of_key[key] > len(certain) + unknown:
            what = f"{of_key[key]} letters for {len(certain)} refused writes and {unknown} unknown ones"
            found.append(Violation(Fault.PHANTOM, workload, key, what))
    strangers = [letter for letter in letters if letter.key not in keys]
    found += [Violation(Fault.PHANTOM, workload, one.key, "a letter of nobody's record") for one in strangers]
    return found


def _may_be_folded_over(op: Op, writes: Sequence[Op]) -> bool:
    return any(other.invoked > op.invoked and other.outcome is not Outcome.FAIL for other in writes)

"""What the promises say of a history and the state after it. Pure: each checker gives the violations it finds.

An acknowledged write must be there, a failed one must not, an unknown one may be there once or not at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tests.faults.histories import Op, Outcome, Sample, Values

Rows = Mapping[int, Values]


class Fault(StrEnum):
    """How a promise is broken."""

    LOST = "lost"  # P1: acknowledged, and not there
    DUPLICATED = "duplicated"  # P2: applied more than once
    REGRESSED = "regressed"  # P3: something older than an acknowledged write won
    PHANTOM = "phantom"  # P4 to P7: there, and nobody wrote it: refused, half of a write, a letter too many
    STALE = "stale"  # P4: a read older than the reader's own write, or a cache that is not its row
    FALSE_ALARM = "false_alarm"  # P8: an audit reports drift that is none


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise."""

    fault: Fault
    workload: str
    key: int
    what: str


def check_set(workload: str, ops: Iterable[Op], rows: Rows) -> list[Violation]:
    """W1: keys are written once."""
    found: list[Violation] = []
    wanted: set[int] = set()
    for op in ops:
        row = rows.get(op.key)
        if op.outcome is not Outcome.FAIL:
            wanted.add(op.key)
        if row is None:
            if op.outcome is Outcome.OK:
                found.append(Violation(Fault.LOST, workload, op.key, f"no row; version {op.version}"))
        elif op.outcome is Outcome.OK and row["body"] != op.values["body"]:
            found.append(Violation(Fault.LOST, workload, op.key, f"body is {row['body']!r}"))
    found += [Violation(Fault.PHANTOM, workload, key, "nobody's row") for key in rows if key not in wanted]
    return found


def check_register(workload: str, ops: Iterable[Op], rows: Rows, fields: Sequence[str]) -> list[Violation]:
    """W2, W5, W8: values are unique; each field holds the newest acknowledged one, or one that may be newer."""
    found: list[Violation] = []
    by_place: defaultdict[tuple[int, str], list[Op]] = defaultdict(list)
    for op in ops:
        for field in fields:
            if field in op.values:
                by_place[op.key, field].append(op)
    for (key, field), writes in by_place.items():
        row = rows.get(key)
        final = None if row is None else row[field]
        found += _check_place(workload, key, field, writes, final)
    known = {key for key, _ in by_place}
    found += [Violation(Fault.PHANTOM, workload, key, "nobody's row") for key in rows if key not in known]
    return found


def _check_place(workload: str, key: int, field: str, writes: Sequence[Op], final: Any) -> list[Violation]:
    acknowledged = [op for op in writes if op.outcome is Outcome.OK]
    if final is None:
        if not acknowledged:
            return []
        return [Violation(Fault.LOST, workload, key, f"{field} is empty after {len(acknowledged)} acknowledged writes")]
    writer = next((op for op in writes if op.values[field] == final), None)
    if writer is None or writer.outcome is Outcome.FAIL:
        who = "nobody wrote it" if writer is None else f"it was refused ({writer.error})"
        return [Violation(Fault.PHANTOM, workload, key, f"{field} is {final}: {who}")]
    newer = next((op for op in acknowledged if _supersedes(op, writer)), None)
    if newer is None:
        return []
    what = f"{field} is {final} of version {writer.version}, older than {newer.values[field]} of {newer.version}"
    return [Violation(Fault.REGRESSED, workload, key, what)]


def _supersedes(newer: Op, older: Op) -> bool:
    """Whether `newer` has a greater version, or began after `older` was acknowledged."""
    if newer.version is not None and older.version is not None and newer.version > older.version:
        return True
    return older.outcome is Outcome.OK and older.ended is not None and newer.invoked > older.ended


def check_versions(workload: str, samples: Iterable[Sample]) -> list[Violation]:
    """W2: a row's version never goes back, whoever looks."""
    found: list[Violation] = []
    newest: dict[int, int] = {}
    for sample in samples:
        for key, version in sample.versions.items():
            if version < newest.get(key, version):
                found.append(Violation(Fault.REGRESSED, workload, key, f"version {newest[key]} went back to {version}"))
            newest[key] = version
    return found


def check_counter(workload: str, ops: Iterable[Op], rows: Rows, *, base: int = 8) -> list[Violation]:
    """W3: each increment has a digit of its own in the ledger, `slot`; `hits` is their number."""
    found: list[Violation] = []
    for key, writes in by_key(ops).items():
        row = rows.get(key, {"hits": 0, "ledger": 0})
        ledger, total = int(row["ledger"]), 0
        for op in sorted(writes, key=lambda op: op.values["slot"]):
            slot = op.values["slot"]
            count = ledger // base**slot % base
            total += count
            if (fault := _count_fault(op.outcome, count)) is not None:
                what = f"increment {slot} ({op.outcome}, version {op.version}) is there {count} times"
                found.append(Violation(fault, workload, key, what))
        if ledger >= base ** (1 + max(op.values["slot"] for op in writes)):
            found.append(Violation(Fault.PHANTOM, workload, key, "increments nobody asked for"))
        if total != row["hits"]:
            found.append(Violation(Fault.PHANTOM, workload, key, f"{row['hits']} hits, {total} in the ledger"))
    known = {op.key for op in ops}
    return found + [Violation(Fault.PHANTOM, workload, key, "nobody's row") for key in rows if key not in known]


def _count_fault(outcome: Outcome, count: int) -> Fault | None:
    """What is wrong with an increment that is there so many times."""
    if count > 1:
        return Fault.DUPLICATED
    if outcome is Outcome.OK and count == 0:
        return Fault.LOST
    if outcome is Outcome.FAIL and count == 1:
        return Fault.PHANTOM
    return None


def check_bank(workload: str, ops: Iterable[Op], rows: Rows, samples: Iterable[Sample]) -> list[Violation]:
    """W4: no snapshot shows half a transfer; acknowledged ≤ moved ≤ acknowledged + unknown."""
    found = [
        Violation(Fault.PHANTOM, workload, key, f"half a transfer at {sample.at:.3f}")
        for sample in samples
        for key in sample.torn
    ]
    for key, writes in by_key(ops).items():
        row = rows.get(key, {"payer": 0, "payee": 0})
        least = sum(op.values["amount"] for op in writes if op.outcome is Outcome.OK)
        most = least + sum(op.values["amount"] for op in writes if op.outcome is Outcome.UNKNOWN)
        if row["payer"] + row["payee"] != 0:
            found.append(Violation(Fault.PHANTOM, workload, key, f"paid {row['payer']}, received {row['payee']}"))
        if row["payee"] < least:
            found.append(Violation(Fault.LOST, workload, key, f"{row['payee']} moved, {least} acknowledged"))
        if row["payee"] > most:
            what = f"{row['payee']} moved, at the most {most} asked for"
            found.append(Violation(Fault.DUPLICATED, workload, key, what))
    return found


def by_key(ops: Iterable[Op]) -> dict[int, list[Op]]:
    """Writes by key, each in the order of their calls."""
    found: defaultdict[int, list[Op]] = defaultdict(list)
    for op in ops:
        found[op.key].append(op)
    return found


def never_succeeded(workload: str, kinds: Iterable[str], ops: Iterable[Op]) -> list[str]:
    """Kinds of operation of which none was acknowledged, tried or not: such a run proves nothing."""
    succeeded = {op.kind for op in ops if op.outcome is Outcome.OK}
    return [f"{workload}: no {kind} was ever acknowledged" for kind in kinds if kind not in succeeded]

"""Checkers of what readers saw (W8 to W10). Pure.

While the cache is lost or out of reach a read goes to the row, which lags: that is promised (ARCHITECTURE.md's loss
matrix), so a stale read counts only if no such time lies between the write and the read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.faults.checkers import Fault, Rows, Violation
from tests.faults.histories import Op, Outcome, Read, Values


@dataclass(frozen=True, slots=True)
class Window:
    """A time in which the cache may have lost entries, or have missed writes."""

    start: float
    end: float

    def touches(self, start: float, end: float) -> bool:
        return self.start <= end and start <= self.end


def check_reads(
    workload: str, ops: Iterable[Op], reads: Iterable[Read], field: str, windows: Sequence[Window]
) -> list[Violation]:
    """W8, during the run: a key's only writer never reads what is older than its own acknowledged write."""
    writes: defaultdict[tuple[str, int], list[Op]] = defaultdict(list)
    for op in ops:
        writes[op.process, op.key].append(op)
    found: list[Violation] = []
    for read in reads:
        mine = writes[read.process, read.key]
        acknowledged = _last_acknowledged(mine, read.invoked)
        if acknowledged is None or any(w.touches(mine[acknowledged].invoked, read.ended) for w in windows):
            continue
        value = None if read.value is None else read.value[field]
        at = next((n for n, op in enumerate(mine) if op.values[field] == value), None)
        if at is not None and at >= acknowledged and mine[at].outcome is not Outcome.FAIL:
            continue
        fault = Fault.STALE if at is None or at < acknowledged else Fault.PHANTOM
        expected = mine[acknowledged]
        what = f"read {value} at {read.ended:.3f}, after {expected.values[field]} (version {expected.version})"
        found.append(Violation(fault, workload, read.key, what))
    return found


def _last_acknowledged(ops: Sequence[Op], before: float) -> int | None:
    """The place of the last write that was acknowledged before a moment."""
    for at in range(len(ops) - 1, -1, -1):
        ended = ops[at].ended
        if ops[at].outcome is Outcome.OK and ended is not None and ended <= before:
            return at
    return None


def check_cache(
    workload: str, cached: Mapping[int, Values | None], rows: Rows, uncertain: Collection[int]
) -> list[Violation]:
    """W8, after everything is flushed: what the library serves is what the table holds.

    `uncertain`: keys with a write of unknown outcome, which the cache may go on showing.
    """
    found: list[Violation] = []
    for key, shown in cached.items():
        row = rows.get(key)
        if shown != row and key not in uncertain:
            found.append(Violation(Fault.STALE, workload, key, f"the cache shows {shown}, the row is {row}"))
    return found


def check_fresh(
    workload: str, ops: Iterable[Op], reads: Iterable[Read], field: str, *, monotonic: bool
) -> list[Violation]:
    """W9, W10: values are unique, and None is what was there before; no reader sees what is older than a write that was
    acknowledged before it began.

    monotonic: nor what is older than another reader saw before it began. Both together make it a register.
    """
    found: list[Violation] = []
    by_key: defaultdict[int, list[Op]] = defaultdict(list)
    for op in ops:
        by_key[op.key].append(op)
    of_key: defaultdict[int, list[Read]] = defaultdict(list)
    for read in reads:
        of_key[read.key].append(read)
    for key, mine in of_key.items():
        writers = {op.values[field]: op for op in by_key[key]}
        for read in mine:
            value = None if read.value is None else read.value[field]
            if value is not None and not _may_show(writers.get(value), read):
                found.append(Violation(Fault.PHANTOM, workload, key, f"read {value} at {read.ended:.3f}"))
        floor = [(op.ended or 0.0, op.version or 0) for op in by_key[key] if op.outcome is Outcome.OK]
        if monotonic:
            floor += [(read.ended, version) for read in mine if (version := _version(read, writers, field))]
        found += [Violation(Fault.STALE, workload, key, what) for what in _older(mine, writers, field, sorted(floor))]
    return found


def _may_show(writer: Op | None, read: Read) -> bool:
    return writer is not None and writer.outcome is not Outcome.FAIL and writer.invoked <= read.ended


def _version(read: Read, writers: Mapping[object, Op], field: str) -> int | None:
    """The version that a read saw; 0 for what was there before, None where nobody knows it."""
    if read.value is None or read.value[field] is None:
        return 0
    writer = writers.get(read.value[field])
    return None if writer is None else writer.version


def _older(
    reads: Sequence[Read], writers: Mapping[object, Op], field: str, floor: Sequence[tuple[float, int]]
) -> list[str]:
    """Reads of less than what was known when they began. `floor`: times and versions, by time."""
    found: list[str] = []
    at = newest = 0
    for read in sorted(reads, key=lambda read: read.invoked):
        while at < len(floor) and floor[at][0] <= read.invoked:
            newest, at = max(newest, floor[at][1]), at + 1
        version = _version(read, writers, field)
        if version is not None and version < newest:
            found.append(f"read version {version} at {read.ended:.3f}, {newest} was known when it began")
    return found

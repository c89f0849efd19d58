"""Checkers of what a reader saw of its own writes, and of what is cached in the end (W8). Pure.

While the cache is lost or out of reach a read goes to the row, which lags: that is promised (ARCHITECTURE.md's loss
matrix), so a stale read counts only if no such time lies between the write and the read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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


def check_cache(workload: str, cached: Mapping[int, Values | None], rows: Rows) -> list[Violation]:
    """W8, after everything is flushed and audited: what the library serves is what the table holds."""
    return [
        Violation(Fault.STALE, workload, key, f"the cache shows {shown}, the row is {rows.get(key)}")
        for key, shown in cached.items()
        if shown != rows.get(key)
    ]

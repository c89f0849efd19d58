"""Checkers of rows that services write themselves, and that many read meanwhile (W9, W10). Pure.

No read is older than a write that was acknowledged before the read began. One exception is promised: while a writer is
cut off from the cache it leaves its invalidation in Kafka, and a client that noticed nothing of the outage may be told
the old row until the flusher has carried that out. So a read that was made in such a time is not held against it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from tests.faults.checkers import Fault, Rows, Violation, by_key, check_counter, check_register
from tests.faults.checkers_cache import Window
from tests.faults.checkers_life import check_churn
from tests.faults.entities import REGISTERS
from tests.faults.histories import Op, Outcome, Read

_EVER: Final = float("-inf")
#: What there was before the first write.
_BEFORE: Final = Op("", 0, "", 0, {}, _EVER, _EVER, Outcome.OK, 0)


class _Known:
    """What is known of a key at a moment: of the writes that were acknowledged by then, the newest version, and the
    latest time at which one began. What ended before that time was overwritten, also where rows have no versions.
    """

    def __init__(self, notes: Iterable[tuple[float, int, float]]) -> None:
        self._times: list[float] = [_EVER]
        self._newest: list[tuple[int, float]] = [(0, _EVER)]
        for ended, version, invoked in sorted(notes):
            newest, latest = self._newest[-1]
            self._times.append(ended)
            self._newest.append((max(newest, version), max(latest, invoked)))

    def at(self, moment: float) -> tuple[int, float]:
        return self._newest[bisect_right(self._times, moment) - 1]


def check_fresh(
    workload: str,
    ops: Iterable[Op],
    reads: Iterable[Read],
    field: str,
    *,
    monotonic: bool = False,
    windows: Sequence[Window] = (),
) -> list[Violation]:
    """W9, W10: values are unique; None is what was there before, or what a delete left.

    monotonic: nor is a read older than what another one saw before it began. Both together make it a register.
    """
    of_key: defaultdict[int, list[Read]] = defaultdict(list)
    for read in reads:
        of_key[read.key].append(read)
    writes = by_key(ops)
    found: list[Violation] = []
    for key, mine in of_key.items():
        writers: defaultdict[object, list[Op]] = defaultdict(list, {None: [_BEFORE]})
        for op in writes.get(key, ()):
            writers[op.values.get(field)].append(op)
        shown = [(read, _candidates(read, writers, field)) for read in mine]
        notes = [
            (op.ended or 0.0, op.version or 0, op.invoked) for op in writes.get(key, ()) if op.outcome is Outcome.OK
        ]
        if monotonic:
            notes += [(read.ended, min(op.version or 0 for op in by), _EVER) for read, by in shown if by]
        known = _Known(notes)
        for read, by in shown:
            if (fault := _fault(read, by, known, windows)) is not None:
                found.append(Violation(fault, workload, key, _told(read, field, known)))
    return found


def _candidates(read: Read, writers: defaultdict[object, list[Op]], field: str) -> list[Op]:
    """Whose write it may be that a read shows."""
    value = None if read.value is None else read.value[field]
    return [op for op in writers.get(value, ()) if op.outcome is not Outcome.FAIL and op.invoked <= read.ended]


def _fault(read: Read, by: Sequence[Op], known: _Known, windows: Sequence[Window]) -> Fault | None:
    if not by:
        return Fault.PHANTOM
    newest, latest = known.at(read.invoked)
    if not all(_superseded(op, newest, latest) for op in by):
        return None
    return None if any(window.touches(read.invoked, read.ended) for window in windows) else Fault.STALE


def _superseded(op: Op, newest: int, latest: float) -> bool:
    if op.version is not None and op.version < newest:
        return True
    return op.outcome is Outcome.OK and op.ended is not None and op.ended < latest


def _told(read: Read, field: str, known: _Known) -> str:
    value = None if read.value is None else read.value[field]
    newest, latest = known.at(read.invoked)
    since = f"version {newest}, and what began at {latest:.3f}, were acknowledged"
    return f"read {value} by {read.process} from {read.invoked:.3f} to {read.ended:.3f}, when {since}"


def check_direct(workload: str, ops: Sequence[Op], rows: Rows) -> list[Violation]:
    """What is left of registers, of ledgers, and of rows that came and went."""
    parts = {kind: [op for op in ops if op.kind in kinds] for kind, kinds in _PARTS.items()}
    keys = {kind: {op.key for op in of_kind} for kind, of_kind in parts.items()}
    of = {kind: {key: row for key, row in rows.items() if key in mine} for kind, mine in keys.items()}
    known = {op.key for op in ops} | set(range(REGISTERS))
    return [
        *[Violation(Fault.PHANTOM, workload, key, "nobody's row") for key in rows if key not in known],
        *check_register(workload, parts["registers"], of["registers"], ["label"]),
        *check_counter(workload, parts["ledgers"], of["ledgers"]),
        *check_churn(workload, parts["comers"], of["comers"]),
    ]


_PARTS: Final = {"registers": ("write",), "ledgers": ("increment",), "comers": ("create", "put", "delete")}

"""The checker of what audits found while everything was under fire (W12). Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from tests.faults.checkers import Fault, Violation

#: Verdicts that are no drift.
CALM = ("pending", "unsettled")


@dataclass(frozen=True, slots=True)
class Finding:
    """An entry that an audit said something of."""

    run: int
    workload: str
    key: int
    verdict: str
    what: str


def check_audit(findings: Iterable[Finding], suspicious: Mapping[str, Collection[int]]) -> list[Violation]:
    """No false alarm. `suspicious`: keys of each workload whose entry and row may differ for good: those that somebody
    edited, and those with a write that was not acknowledged, whose record may never have been enqueued.
    """
    return [
        Violation(Fault.FALSE_ALARM, one.workload, one.key, f"audit {one.run} says {one.verdict}: {one.what}")
        for one in findings
        if one.verdict not in CALM and one.key not in suspicious.get(one.workload, ())
    ]

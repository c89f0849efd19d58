"""The report of a run: as text, as JSON and as one page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.faults import chart
from tests.faults.auditing import AUDIT, PLANT
from tests.faults.checkers import Fault, Violation
from tests.faults.fleet import Exit
from tests.faults.histories import History, Outcome
from tests.faults.replays import REPLAY
from tests.faults.timeline import Incident, Point

NONE_PLANTED: Final = "-"
NO_WRITES: Final = (REPLAY, AUDIT, PLANT)  # what else a history tells of
SHOWN_MAX: Final = 30  # violations in the text; all are in the JSON


@dataclass(slots=True)
class Result:
    """What a run found. `problems`: reasons besides violations for which the run proves nothing, or fails."""

    seed: int
    began: float
    incidents: Sequence[Incident]
    points: Sequence[Point]
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    acknowledged_at: Counter[int] = field(default_factory=Counter)  # by second of the run
    reads: int = 0
    failed_reads: int = 0
    letters: int = 0
    replays: int = 0
    audits: int = 0
    drift: int = 0
    violations: list[Violation] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    exits: list[Exit] = field(default_factory=list)
    planted_bugs_caught: str = NONE_PLANTED

    def count(self, histories: Mapping[str, Sequence[History]]) -> None:
        """Take the figures of the histories."""
        for history in [one for of_name in histories.values() for one in of_name]:
            self.reads += len(history.reads)
            self.failed_reads += history.failed_reads
            for op in history.ops:
                self.replays += op.kind == REPLAY
                self.audits += op.kind == AUDIT
                if op.kind in NO_WRITES:
                    continue
                self.outcomes[op.outcome] += 1
                if op.outcome is Outcome.OK and op.ended is not None:
                    self.acknowledged_at[int(op.ended - self.began)] += 1

    @property
    def carried_out(self) -> list[Incident]:
        return [incident for incident in self.incidents if not incident.skipped and not incident.failed]

    @property
    def green(self) -> bool:
        return not self.violations and not self.problems

    @property
    def every_bug_caught(self) -> bool:
        """Whether the checkers found all that was planted; so too when nothing was."""
        caught, _, planted = self.planted_bugs_caught.partition("/")
        return self.planted_bugs_caught == NONE_PLANTED or caught == planted

    def line(self) -> dict[str, Any]:
        """What the last line of a run says."""
        found = Counter(violation.fault for violation in self.violations)
        recoveries = [i.recovery_s for i in self.carried_out if i.recovery_s is not None]
        return {
            "faults": len(self.carried_out),
            "acknowledged": self.outcomes[Outcome.OK],
            "unknown": self.outcomes[Outcome.UNKNOWN],
            **{str(fault): found[fault] for fault in Fault},
            "recovery_s_max": round(max(recoveries, default=0.0), 2),
            "planted_bugs_caught": self.planted_bugs_caught,
        }

    def figures(self) -> dict[str, Any]:
        """What else a reader may want to know."""
        return {
            "seed": self.seed,
            "kinds of fault": len({str(incident.planned.variant) for incident in self.carried_out}),
            "failed": self.outcomes[Outcome.FAIL],
            "reads": self.reads,
            "reads without an answer": self.failed_reads,
            "dead letters": self.letters,
            "replays": self.replays,
            "audits": self.audits,
            "drift found": self.drift,
            "flushers that ended by themselves": len(self.exits),
            "problems": len(self.problems),
        }


def text(result: Result) -> Iterator[str]:
    """The timeline and the findings, line by line."""
    yield f"{'from':>8}  {'to':>8}  {'recovered in':>12}  fault"
    for incident in result.incidents:
        yield _incident(result, incident)
    yield ""
    yield (
        f"{result.outcomes[Outcome.OK]:,} writes acknowledged, {result.outcomes[Outcome.FAIL]:,} failed, "
        f"{result.outcomes[Outcome.UNKNOWN]:,} unknown; {result.reads:,} reads, {result.failed_reads:,} unanswered; "
        f"{result.letters:,} dead letters; {result.replays:,} replays; "
        f"{result.audits:,} audits found {result.drift:,} differences"
    )
    for ended in result.exits:
        last = ended.log.splitlines()[-1:] or [""]
        yield f"{ended.at - result.began:8.1f}  flusher {ended.slot} ended by itself with {ended.code}: {last[0]}"
    for violation in result.violations[:SHOWN_MAX]:
        yield f"VIOLATION  {violation.fault}  {violation.workload} {violation.key}: {violation.what}"
    if len(result.violations) > SHOWN_MAX:
        yield f"and {len(result.violations) - SHOWN_MAX} more"
    for problem in result.problems:
        yield f"PROBLEM  {problem}"


def _incident(result: Result, incident: Incident) -> str:
    ended = "" if incident.ended is None else f"{incident.ended - result.began:8.1f}"
    recovery = "-" if incident.recovery_s is None else f"{incident.recovery_s:.2f} s"
    state = " FAILED:" if incident.failed else " skipped:" if incident.skipped else ""
    note = f"  ({incident.note})" if incident.note and not state else f" {incident.note}"
    slot = f"flusher {incident.planned.slot}"
    line = f"{incident.began - result.began:8.1f}  {ended:>8}  {recovery:>12}  {incident.planned.variant}, {slot}"
    return f"{line}{state}{note}".rstrip()


def write(result: Result, folder: Path) -> None:
    """Write `report.txt`, `report.json` and `report.html`."""
    lines = list(text(result))
    (folder / "report.txt").write_text("\n".join([*lines, json.dumps(result.line())]) + "\n")
    (folder / "report.json").write_text(json.dumps(_as_json(result), indent=1) + "\n")
    (folder / "report.html").write_text(_page(result, lines))


def _as_json(result: Result) -> dict[str, Any]:
    return {
        "line": result.line(),
        "figures": result.figures(),
        "incidents": [
            {
                "fault": str(incident.planned.variant),
                "flusher": incident.planned.slot,
                "began_s": round(incident.began - result.began, 2),
                "ended_s": None if incident.ended is None else round(incident.ended - result.began, 2),
                "recovery_s": None if incident.recovery_s is None else round(incident.recovery_s, 2),
                "note": incident.note,
                "state": "failed" if incident.failed else "skipped" if incident.skipped else "carried out",
            }
            for incident in result.incidents
        ],
        "violations": [
            {"fault": str(one.fault), "workload": one.workload, "key": one.key, "what": one.what}
            for one in result.violations
        ],
        "problems": result.problems,
        "flusher_exits": [
            {"at_s": round(one.at - result.began, 2), "flusher": one.slot, "code": one.code, "log": one.log}
            for one in result.exits
        ],
        "series": [[round(p.at - result.began, 2), p.written, p.flushed] for p in result.points],
        "acknowledged_per_s": sorted(result.acknowledged_at.items()),
    }


def _page(result: Result, lines: Sequence[str]) -> str:
    title = f"Fault run, seed {result.seed}: {'green' if result.green else 'NOT GREEN'}"
    facts = "".join(f"<tr><th>{name}<td>{value}" for name, value in (result.line() | result.figures()).items())
    drawing = chart.draw(result.began, result.points, result.acknowledged_at, result.carried_out)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>{chart.STYLE}'
        f"<h1>{title}</h1>{drawing}<table>{facts}</table><pre>{chart.escaped(lines)}</pre></html>\n"
    )

"""What an audit says at its end, for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..letters.render import printable
from .diff import Verdict
from .run import Result


def lines(result: Result) -> Iterator[str]:
    """The report: a line that sums up, then each entity."""
    compared = sum(told["compared"] for told in result.entities.values())
    drift = f"{result.drift:,} drifted" if result.drift else "no drift"
    end = "" if result.finished else "; stopped before the end: --resume goes on"
    yield f"audit {result.run}: {compared:,} entries compared in {result.seconds:.1f} s, {drift}{end}"
    for name, told in result.entities.items():
        yield from _entity(name, told)
    if result.foreign:
        listed = ", ".join(f"{printable(name)} {count:,}" for name, count in sorted(result.foreign.items()))
        yield f"under our prefix, but not audited: {listed}"
    if result.restarts:
        yield f"the cache was started again meanwhile; the scan began anew {result.restarts} times"


def _entity(name: str, told: dict[str, Any]) -> Iterator[str]:
    verdicts = ", ".join(f"{verdict} {count:,}" for verdict, count in told["verdicts"].items() if count)
    yield f"{name}: {verdicts or 'nothing is cached'}"
    if told["compared"]:
        yield "  consistent within " + ", ".join(_window(minutes, window) for minutes, window in told["nines"].items())
    coverage = {what.replace("_", " "): count for what, count in told["coverage"].items() if count}
    if coverage:
        yield "  not compared: " + ", ".join(f"{what} {count:,}" for what, count in coverage.items())
    yield f"  everything cached was in sync at {told['verified_through'] or 'no time yet'}"
    if told["repairs"]:
        yield "  repairs: " + ", ".join(f"{what} {count:,}" for what, count in told["repairs"].items())
    for example in told["examples"]:
        yield "  " + _example(example)
    shown = len(told["examples"])
    hidden = sum(told["verdicts"].values()) - told["verdicts"]["in_sync"] - told["verdicts"]["pending"] - shown
    if hidden > 0:
        yield f"  … and {hidden:,} more, in writebehind.audit_finding"


def _window(minutes: str, window: dict[str, Any]) -> str:
    share = 100 * window["consistent"] / window["of"]
    nines = "" if window["nines"] is None else f" ({window['nines']:g} nines)"
    return f"{minutes} min: {share:.6g} %{nines}"


def _example(example: dict[str, Any]) -> str:
    fields = f" ({', '.join(field.strip('()') for field in example['fields'])})" if example["fields"] else ""
    reason = f": {example['reason']}" if example["reason"] else ""
    age = (
        ""
        if example["verdict"] in (Verdict.UNREADABLE, Verdict.UNSETTLED)
        else f", at most {duration(example['age_s'])} old"
    )
    repair = f"; {example['repair']}" if example["repair"] else ""
    values = ""
    for field, (cached, stored) in (example.get("values") or {}).items():
        values += f"\n      {field}: cache {printable(str(cached))}, row {printable(str(stored))}"
    return f"{example['verdict']} {printable(example['key'])}{fields}{reason}{age}{repair}{values}"


def duration(seconds: float) -> str:
    """A length of time in the largest unit of which there are at least two."""
    for name, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {name}"
    return f"{seconds:.0f} s"

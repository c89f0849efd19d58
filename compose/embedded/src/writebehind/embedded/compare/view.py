"""The comparison as one table. `rows` is what the page shows as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rich.console import Console
from rich.table import Table

from .outcome import Comparison, Latency, Outage, Strategy

WIDTH: Final = 120
NOTHING: Final = "–"


def show(console: Console, found: Comparison) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in found.strategies:
        table.add_column(name, justify="right")
    for label, cells in rows(found):
        table.add_row(label, *cells)
    console.print(table)
    if found.skipped:
        console.print(f"\nnothing was killed: {found.skipped}")


def rows(found: Comparison) -> list[tuple[str, list[str]]]:
    """The table: a label, and a cell per strategy."""
    strategies = list(found.strategies.values())
    lines = [(label, [cell(one) for one in strategies]) for label, cell in _LOAD]
    if not found.skipped:
        killed = {
            "cache": [one.cache_killed for one in strategies],
            "database": [one.database_killed for one in strategies],
        }
        for server, outages in killed.items():
            for label, cell in _OUTAGE:
                lines.append((f"{server} killed: {label}", [cell(one) if one else NOTHING for one in outages]))
    return lines


def ms(value: float | None) -> str:
    """Milliseconds, with as many digits as matter."""
    if value is None:
        return NOTHING
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def _three(latency: Latency) -> str:
    return " / ".join(ms(value) for value in (latency.p50_ms, latency.p99_ms, latency.max_ms))


def _failed(outage: Outage, op: str) -> str:
    done = outage.read.count if op == "read" else outage.write.count
    failed = [f"{count:,} {name.partition(' ')[2]}" for name, count in outage.errors.items() if name.startswith(op)]
    return ", ".join([f"{done:,} ok", *failed])


def _back(outage: Outage) -> str:
    return NOTHING if outage.back_s is None else f"{outage.back_s:.2f} s"


_LOAD: Final[list[tuple[str, Callable[[Strategy], str]]]] = [
    ("read, ms: p50 / p99 / max", lambda one: _three(one.load.read)),
    ("write, ms: p50 / p99 / max", lambda one: _three(one.load.write)),
    ("calls per second", lambda one: f"{one.load.calls_per_s:,}"),
    ("seen by a second client after, ms", lambda one: _three(one.seen.second_client)),
    ("seen in the table after, ms", lambda one: _three(one.seen.table)),
    ("reads older than an acknowledged write", lambda one: f"{one.load.old_reads:,} of {one.load.read.count:,}"),
    ("statements on the table per write", lambda one: f"{one.statements_per_write:g}"),
    ("calls that failed", lambda one: f"{sum(one.load.errors.values()):,}"),
]
_OUTAGE: Final[list[tuple[str, Callable[[Outage], str]]]] = [
    ("reads", lambda one: _failed(one, "read")),
    ("writes", lambda one: _failed(one, "write")),
    ("write, ms: p50 / p99 / max", lambda one: _three(one.write)),
    ("old reads, until the end", lambda one: f"{one.old_reads:,}"),
    ("back after its start", _back),
]

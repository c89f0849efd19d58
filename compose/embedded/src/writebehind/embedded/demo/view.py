"""What the demo shows: a bar with live numbers while it runs, a table at the end, and how to look around."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from writebehind.embedded.demo.audit import Audited
from writebehind.embedded.demo.flusher import ENTITIES
from writebehind.embedded.demo.outcome import Outcome
from writebehind.embedded.stack import CACHE_SETTING, DATABASE_SETTING

_DIFFERENCES_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Live:
    """The numbers of a moment. Writes and records are the same thing before and after Kafka."""

    acknowledged_per_s: float = 0.0
    flushed_per_s: float = 0.0
    pending: int = 0
    rows_per_statement: float | None = None
    kills: int = 0


class Bar(Progress):
    """The progress bar with a line of live numbers below it. Off a terminal it shows its last state only."""

    def __init__(self, console: Console, departures: int) -> None:
        self.live_numbers = Live()
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            refresh_per_second=4,
        )
        self._departures = self.add_task("departures", total=departures)

    def show(self, departures: int, numbers: Live) -> None:
        self.live_numbers = numbers
        self.update(self._departures, completed=departures)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield _numbers(self.live_numbers)


def _numbers(live: Live) -> Table:
    per_statement = "–" if live.rows_per_statement is None else f"{live.rows_per_statement:,.0f}"
    numbers = {
        "acknowledged/s": f"{live.acknowledged_per_s:,.0f}",
        "flushed/s": f"{live.flushed_per_s:,.0f}",
        "pending": f"{live.pending:,}",
        "rows/statement": per_statement,
        "kills": str(live.kills),
    }
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in numbers:
        table.add_column(name, justify="right", min_width=9)
    table.add_row(*numbers.values())
    return table


def print_outcome(console: Console, outcome: Outcome) -> None:
    """The tables of rows and of the audit, the first differences, then the verdict."""
    result = outcome.result
    table = Table(title="every row, recomputed from the CSV file")
    table.add_column("where")
    table.add_column("table")
    table.add_column("rows", justify="right")
    table.add_column("differences", justify="right")
    for one in outcome.comparisons:
        found = len(one.differences)
        table.add_row(one.place, one.table, f"{one.rows:,}", f"[red]{found:,}[/red]" if found else "0")
    console.print(table)
    console.print(_audited(outcome.audited))
    console.print(
        f"{result.departures:,} departures, {result.writes:,} writes acknowledged at {result.acknowledged_per_s:,}/s\n"
        f"flusher kills: {result.flusher_kills}; {outcome.seconds:.0f} s since the servers were up",
        highlight=False,
    )
    differences = [difference for one in outcome.comparisons for difference in one.differences]
    for difference in differences[:_DIFFERENCES_SHOWN]:
        console.print(str(difference), markup=False, highlight=False)
    if len(differences) > _DIFFERENCES_SHOWN:
        console.print(f"… and {len(differences) - _DIFFERENCES_SHOWN:,} more")
    for example in [example for one in outcome.audited for example in one.examples][:_DIFFERENCES_SHOWN]:
        console.print(f"audit: {example}", markup=False, highlight=False)
    exact = "[green]exact[/green]" if result.exact else f"[red]{result.differences:,} differences[/red]"
    drift = f"[red]{result.audit_drift:,} drifted[/red]" if result.audit_drift else "[green]no drift[/green]"
    console.print(f"[bold]{exact}, {drift}[/bold]")


def _audited(audited: Iterable[Audited]) -> Table:
    table = Table(title="writebehind audit")
    for name in ("direction", "entity"):
        table.add_column(name)
    for name in ("compared", "drift"):
        table.add_column(name, justify="right")
    for one in audited:
        drift = f"[red]{one.drift:,}[/red]" if one.drift else "0"
        table.add_row(one.direction, one.entity, f"{one.compared:,}", drift)
    return table


def print_around(console: Console, settings: Mapping[str, str]) -> None:
    """How to look around while everything is left up."""
    shown = {**settings, **{name: _without_password(settings[name]) for name in (DATABASE_SETTING, CACHE_SETTING)}}
    lines = [
        "everything is left up; in another shell:",
        *[f"  export {name}={shlex.quote(value)}" for name, value in shown.items()],
        f'  psql "${DATABASE_SETTING}" -c "TABLE routes"',
        f"  writebehind status --entities {ENTITIES}",
        "Ctrl-C ends it.",
    ]
    # Plain, so that long lines are not broken and can be copied.
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def _without_password(url: str) -> str:
    """Existing servers may have one; the embedded ones have none."""
    password = urlsplit(url).password
    return url if password is None else url.replace(f":{password}@", "@", 1)

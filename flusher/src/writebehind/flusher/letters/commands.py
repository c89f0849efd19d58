"""What the commands do, once their options are read. Each gives its exit code."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console

from writebehind.shared.errors import ConfigurationError
from writebehind.shared.letter import Origin
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings

from ..who import person
from . import render
from .filters import Filters
from .item import REFUSED, Item, place_text
from .outcome import Outcome, Result
from .replay import Limits, Replay
from .rows import PAGE_ROWS
from .scan import scan
from .transfer import from_file
from .transfer_commands import note_foreign, opened

EXPLAINED_MAX = 20  # reasons printed for people; --json has them all


def list_letters(settings: Settings, registry: Registry, filters: Filters, *, as_json: bool) -> int:
    """Print letters. 1: one of them is open."""
    open_letters = 0

    def counted(items: Iterable[Item]) -> Iterator[Item]:
        nonlocal open_letters
        for item in items:
            open_letters += item.state == REFUSED
            yield item

    with render.Bar() as bar, scan(settings, registry, filters, bar) as found:
        items = counted(found.items(bar))
        if as_json:
            for item in items:
                render.print_json(render.as_json(item))
        else:
            console = Console() if sys.stdout.isatty() else Console(width=200)  # a pipe has no width to fit
            for table in render.tables(items):
                console.print(table)
            print(f"{open_letters} open")
        note_foreign(found)
    return 1 if open_letters else 0


def show(settings: Settings, registry: Registry, filters: Filters, *, values: bool, as_json: bool) -> int:
    """Print the letters of a place (several when its topic was made again). 2: there is none."""
    shown = 0
    with scan(settings, registry, filters) as found:
        for item in found.items():
            letter = render.whole(item, registry, values=values)
            if as_json:
                render.print_json(letter)
            else:
                _print_whole(letter)
            shown += 1
    if not shown:
        raise ConfigurationError("there is no such letter: `letters list --all` prints them as TOPIC/PARTITION/OFFSET")
    return 0


def replay(
    settings: Settings,
    registry: Registry,
    filters: Filters,
    limits: Limits,
    *,
    commit: bool,
    file: Path | None,
    as_json: bool,
) -> int:
    """Replay open letters, from their topics or from an export. 1: some were refused again, or not tried."""
    explained = 0

    def tell(origin: Origin, entity: str, result: Result) -> None:
        nonlocal explained
        if as_json:
            told = {"letter": place_text(origin), "topic_id": origin.topic_id, "entity": entity}
            render.print_json({**told, "outcome": str(result.outcome), "reason": result.reason})
        elif result.outcome is not Outcome.APPLIED:
            explained += 1
            if explained <= EXPLAINED_MAX:
                print(f"{result.outcome}: {place_text(origin)} ({entity}): {render.printable(result.reason or '')}")

    run = Replay(settings, registry, limits, commit=commit, tell=tell)
    bad = 0

    def bad_line(reason: str) -> None:
        nonlocal bad
        bad += 1
        print(f"rejected: {reason}", file=sys.stderr)

    with ExitStack() as stack:
        bar = stack.enter_context(render.Bar())
        lines = None if file is None else stack.enter_context(opened(file))
        found = stack.enter_context(scan(settings, registry, filters, bar))
        if file is None or lines is None:
            items = found.items(bar)
        else:
            bar.start("letters", file.stat().st_size)
            items = from_file(found, lines, file.name, bar, bad_line)
        run.run(items, dt.datetime.now(dt.UTC))
    _print_replayed(run, bad, commit=commit, as_json=as_json, unexplained=explained - EXPLAINED_MAX)
    return 1 if run.counts[Outcome.REFUSED] or run.counts[Outcome.REJECTED] or run.untold or bad else 0


def discard(settings: Settings, registry: Registry, filters: Filters, *, yes: bool, as_json: bool) -> int:
    """Close open letters for good; their messages stay in the topic."""
    by = f"discard {person()}"
    discarded = 0
    with render.Bar() as bar, scan(settings, registry, filters, bar) as found:
        if not yes:
            count = sum(item.state == REFUSED for item in found.items())
            if not count or not _confirmed(count):
                print("nothing was discarded", file=sys.stderr)
                return 0
            found.again()
        origins = (item.origin for item in found.items(bar) if item.state == REFUSED)
        while page := list(islice(origins, PAGE_ROWS)):
            discarded += found.rows.discard(page, by)
    if as_json:
        render.print_json({"discarded": discarded, "by": by})
    else:
        print(f"{discarded} discarded")
    return 0


def _print_replayed(run: Replay, bad: int, *, commit: bool, as_json: bool, unexplained: int) -> None:
    counts = {str(outcome): run.counts[outcome] for outcome in Outcome}
    counts["rejected"] += bad
    if as_json:
        render.print_json({"summary": {"dry_run": not commit, **counts, "cache_untold": run.untold}})
        return
    if unexplained > 0:
        print(f"… and {unexplained} more; --json has them all")
    would = "" if commit else "dry run, nothing was changed; with --apply it would be: "
    print(would + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    if run.untold:
        print(
            f"the cache could not be told of {run.untold} rows: replay --apply again when it answers", file=sys.stderr
        )


def _print_whole(letter: dict[str, Any]) -> None:
    for name, value in letter.items():
        if name == "headers":
            print("headers:")
            for header, text in value:
                print(f"    {render.printable(header)}: {render.printable(str(text))}")
        elif isinstance(value, dict):
            print(f"{name}:")
            for field, text in value.items():
                print(f"    {field}: {render.printable(str(text))}")
        elif value is not None:
            print(f"{name}: {render.printable(str(value))}")


def _confirmed(count: int) -> bool:
    if not sys.stdin.isatty():
        raise ConfigurationError("discard asks before it acts, and there is nobody to ask: add --yes")
    print(f"Discard {count} open letters? Their records will never reach the database. [y/N] ", end="", file=sys.stderr)
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")

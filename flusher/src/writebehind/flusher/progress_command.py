"""The commands `writebehind progress show` and `progress set`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from writebehind.shared.errors import ConfigurationError
from writebehind.shared.settings import load_settings

if TYPE_CHECKING:
    from .move import Standing

app = typer.Typer(no_args_is_help=True, help="How far each partition is flushed, and what stops it.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def show(as_json: Json = False) -> None:
    """Compare what is flushed with what the broker has. Exit code 1 when a gap stops a partition."""
    from .progress import Ledger

    with Ledger(load_settings()) as ledger:
        standings = ledger.standings()
    stopped = sum(standing.gap is not None for standing in standings)
    if as_json:
        print(json.dumps({"stopped": stopped, "partitions": [standing.as_json() for standing in standings]}))
    else:
        for standing in standings:
            _print(standing)
        if not standings:
            print("no partition was ever claimed")
    raise typer.Exit(1 if stopped else 0)


def _print(standing: Standing) -> None:
    stored, log, gap = standing.stored, standing.log, standing.gap
    at = "not claimed" if stored is None else f"flushed to {stored.next_offset} of topic {stored.topic_id}"
    there = "there is no such topic" if log is None else f"the log has {log.start} to {log.end} of topic {log.topic_id}"
    print(f"{standing.topic}[{standing.partition}]: {at}; {there}")
    if gap is not None:
        records = "an unknown number of" if gap.records is None else f"{gap.records:,}"
        print(f"  STOPPED by a gap of {records} records: {gap.reason}\n  to go on without them: {gap.command}")


@app.command("set")
def set_(
    topic: str,
    partition: Annotated[int, typer.Argument(min=0)],
    offset: Annotated[str, typer.Option(help="Where to go on: a number, earliest or latest.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    repeat: Annotated[bool, typer.Option("--repeat", help="Agree to count increments twice when going back.")] = False,
) -> None:
    """Make a partition go on at an offset. A flusher that runs notices within 10 s."""
    from .move import plan
    from .progress import Ledger

    with Ledger(load_settings()) as ledger:
        move = plan(ledger.standing(topic, partition), offset)
        for line in move.lines():
            print(line)
        move.check(repeat=repeat)
        if not yes:
            if not sys.stdin.isatty():
                raise ConfigurationError("nobody can be asked here: give --yes to go on")
            if not typer.confirm("Go on?"):
                print("nothing was changed")
                raise typer.Exit(1)
        print(f"done by {ledger.move(move, repeat=repeat)}")

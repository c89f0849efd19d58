"""`writebehind letters …`. Exit codes: 0 nothing is open, 1 something is or was refused, 2 could not run."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from ..prepare import prepare

app = typer.Typer(no_args_is_help=True, help="Records that were refused: list, show, replay, discard, export, import.")

Entities = Annotated[
    list[str] | None, typer.Option(help="Module that declares entities, such as shop.entities; may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]
Letters = Annotated[list[str] | None, typer.Argument(help="Letters, as TOPIC/PARTITION/OFFSET; none: all.")]
Entity = Annotated[list[str] | None, typer.Option(help="Only this entity; may be repeated, as all filters may.")]
Reason = Annotated[
    list[str] | None, typer.Option(help="Only this SQLSTATE, class of them (23) or exception (CheckViolation).")
]
Key = Annotated[list[str] | None, typer.Option(help="Only this key, as `letters list` prints it.")]
State = Annotated[
    list[str] | None, typer.Option(help="Only this state: refused, applied, superseded, discarded or void.")
]
Since = Annotated[str | None, typer.Option(help="Refused since then: 2h, 7d, or 2026-01-31T12:00:00+00:00.")]
Until = Annotated[str | None, typer.Option(help="Refused before then.")]


@app.command("list")
def list_(  # noqa: PLR0913, PLR0917  # a command's options are its parameters
    letters: Letters = None,
    entities: Entities = None,
    entity: Entity = None,
    reason: Reason = None,
    key: Key = None,
    state: State = None,
    since: Since = None,
    until: Until = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also void ones, of records that were not skipped after all.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List letters; ends with 1 when one of them is open (refused)."""
    from . import commands, filters

    wanted = filters.build(
        now=dt.datetime.now(dt.UTC),
        entities=entity or (),
        reasons=reason or (),
        keys=key or (),
        states=state or (),
        letters=letters or (),
        since=since,
        until=until,
        void=everything,
    )
    raise typer.Exit(commands.list_letters(*prepare(entities), wanted, as_json=as_json))


@app.command()
def show(
    letter: Annotated[str, typer.Argument(help="TOPIC/PARTITION/OFFSET of the record, as `letters list` prints it.")],
    entities: Entities = None,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="Also the record's value and own headers.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show one letter whole."""
    from . import commands, filters

    wanted = filters.build(now=dt.datetime.now(dt.UTC), letters=[letter], void=True)
    raise typer.Exit(commands.show(*prepare(entities), wanted, values=show_values, as_json=as_json))


@app.command()
def replay(  # noqa: PLR0913, PLR0917  # a command's options are its parameters
    letters: Letters = None,
    entities: Entities = None,
    entity: Entity = None,
    reason: Reason = None,
    key: Key = None,
    since: Since = None,
    until: Until = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Do it. Without, each chunk is tried and rolled back.")
    ] = False,
    letters_max: Annotated[int | None, typer.Option("--max", min=1, help="Try no more letters than this.")] = None,
    replays_max: Annotated[
        int | None, typer.Option("--max-replays", min=1, help="Leave alone what was refused again so often.")
    ] = None,
    chunk: Annotated[int, typer.Option(min=1, max=5_000, help="Letters in one transaction.")] = 200,
    file: Annotated[
        Path | None, typer.Option("--from", help="Take the letters from a file of `letters export`.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring open letters into the database, each once; ends with 1 when some were refused again or not tried."""
    from . import commands, filters
    from .replay import Limits

    wanted = filters.build(
        now=dt.datetime.now(dt.UTC),
        entities=entity or (),
        reasons=reason or (),
        keys=key or (),
        letters=letters or (),
        since=since,
        until=until,
        void=file is not None,  # a letter that was asked for by file is never passed over in silence
    )
    limits = Limits(letters_max, chunk, replays_max)
    raise typer.Exit(commands.replay(*prepare(entities), wanted, limits, commit=apply, file=file, as_json=as_json))


@app.command()
def discard(  # noqa: PLR0913, PLR0917  # a command's options are its parameters
    letters: Letters = None,
    entities: Entities = None,
    entity: Entity = None,
    reason: Reason = None,
    key: Key = None,
    since: Since = None,
    until: Until = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Close open letters for good. Who did it is recorded, and the messages stay in their topic."""
    from . import commands, filters

    wanted = filters.build(
        now=dt.datetime.now(dt.UTC),
        entities=entity or (),
        reasons=reason or (),
        keys=key or (),
        letters=letters or (),
        since=since,
        until=until,
    )
    raise typer.Exit(commands.discard(*prepare(entities), wanted, yes=yes, as_json=as_json))


@app.command()
def export(  # noqa: PLR0913, PLR0917  # a command's options are its parameters
    letters: Letters = None,
    entities: Entities = None,
    entity: Entity = None,
    reason: Reason = None,
    key: Key = None,
    state: State = None,
    since: Since = None,
    until: Until = None,
    output: Annotated[Path | None, typer.Option(help="A file; none: standard output.")] = None,
) -> None:
    """Write letters as NDJSON, values included."""
    from . import filters, transfer_commands

    wanted = filters.build(
        now=dt.datetime.now(dt.UTC),
        entities=entity or (),
        reasons=reason or (),
        keys=key or (),
        states=state or (),
        letters=letters or (),
        since=since,
        until=until,
    )
    raise typer.Exit(transfer_commands.export(*prepare(entities), wanted, output=output))


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A file of `letters export`.")],
    entities: Entities = None,
    as_json: Json = False,
) -> None:
    """Put letters that their topic has lost back into it; never makes a letter that was none."""
    from . import transfer_commands

    raise typer.Exit(transfer_commands.import_(*prepare(entities), file, as_json=as_json))

"""The `writebehind` command. Exit codes: 0 done, 1 something was found, 2 could not run."""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import entry_points, version
from typing import Annotated

import typer
from rich.console import Console

from writebehind.shared.errors import ConfigurationError, WritebehindError

from . import progress_command
from .audit.cli import audit, whereis
from .check.cli import check
from .grants.cli import grants
from .letters.cli import app as letters
from .prepare import prepare, registry_of

app = typer.Typer(
    name="writebehind",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # they hold the settings' secrets
    help="Write-behind caching on Postgres, Redis/Valkey and Kafka.",
)
app.add_typer(letters, name="letters")
app.add_typer(progress_command.app, name="progress")
app.command("audit")(audit)
app.command("whereis")(whereis)
app.command("grants")(grants)
app.command("check")(check)

WATCH_INTERVAL_S = 2.0

Entities = Annotated[
    list[str] | None, typer.Option(help="Module that declares entities, such as shop.entities; may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Run the command; problems of ours end in a message and exit code 2, not in a traceback."""
    add_commands_of_others()
    try:
        app()
    except WritebehindError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def add_commands_of_others() -> None:
    """Those that installed packages bring: `stack`, `demo`, `compare`."""
    for entry in entry_points(group="writebehind.commands"):
        command = entry.load()
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=entry.name)
        else:
            app.command(entry.name)(command)


def _print_version(asked: bool) -> None:
    if asked:
        print(version("writebehind-flusher"))
        raise typer.Exit


@app.callback(invoke_without_command=False)
def _options(
    show_version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, help="Print the version.", callback=_print_version),
    ] = False,
) -> None:
    """Options of every command."""


@app.command()
def flush(
    entities: Entities = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.")] = None,
    connections: Annotated[int | None, typer.Option(min=1, help="Database connections per entity and process.")] = None,
    group: Annotated[str | None, typer.Option(help="Consumer group.")] = None,
) -> None:
    """Flush records to Postgres until SIGTERM."""
    from .app import run
    from .logs import configure_logging

    given = {"workers": workers, "connections": connections, "group": group}
    settings, registry = prepare(entities, flusher={name: value for name, value in given.items() if value is not None})
    configure_logging(settings.log)
    raise typer.Exit(run(settings, registry))


@app.command()
def migrate(
    entities: Entities = None,
    show: Annotated[bool, typer.Option("--print", help="Print the statements and do nothing.")] = False,
    tables: Annotated[bool, typer.Option(help="Also add missing columns of versions to the entities' tables.")] = False,
    as_json: Json = False,
) -> None:
    """Create the bookkeeping tables and the topics; list what has to be done by hand."""
    from .migrate import ddl
    from .migrate import migrate as run

    settings, registry = prepare(entities)
    if show:
        print(ddl(settings, registry))
        return
    report = run(settings, registry, tables=tables)
    if as_json:
        print(json.dumps({"done": report.done, "problems": [{"problem": p, "fix": f} for p, f in report.problems]}))
    else:
        for line in report.done or ["nothing to do"]:
            print(line)
        for problem, fix in report.problems:
            print(f"problem: {problem}\n    to mend it: {fix}", file=sys.stderr)
    raise typer.Exit(1 if report.problems else 0)


@app.command()
def invalidate(
    entity: Annotated[str, typer.Argument(help="The entity's name, such as player.")],
    keys: Annotated[list[str] | None, typer.Argument(help="Keys; the parts of a composite one as a|b.")] = None,
    where: Annotated[str | None, typer.Option(help="An SQL condition on the table, instead of keys.")] = None,
    entities: Entities = None,
    as_json: Json = False,
) -> None:
    """Forget cache entries of rows that were changed by hand (cache-aside and write-through)."""
    from .invalidate_command import invalidate as run

    settings, registry = prepare(entities)
    count = run(settings, registry[entity], keys or [], where)
    print(json.dumps({"entity": entity, "invalidated": count}) if as_json else f"{count} entries of {entity} forgotten")


@app.command()
def status(
    entities: Entities = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C, with rates.")] = False,
    interval: Annotated[
        float | None,
        typer.Option(min=0.2, help="Seconds between two samples; without --watch: take two, so that there are rates."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show how far the flusher is: lag in records and seconds, oldest pending, rate, owner."""
    from .status import Sampler, Status, render

    settings, registry = prepare(entities)
    sampler = Sampler(settings, registry)

    def show(sample: Status, console: Console) -> None:
        if as_json:
            print(json.dumps(sample.as_json()), flush=True)
            return
        console.print(render(sample))
        for topic in sample.missing_topics:
            console.print(f"there is no topic {topic}: run `writebehind migrate`")

    console = Console() if sys.stdout.isatty() else Console(width=160)  # a pipe has no width to fit
    try:
        if interval is not None and not watch:
            sampler.sample()
            time.sleep(interval)
        show(sampler.sample(), console)
        while watch:
            time.sleep(interval or WATCH_INTERVAL_S)
            if not as_json and console.is_terminal:
                console.clear()
            show(sampler.sample(), console)
    except KeyboardInterrupt:
        return
    finally:
        sampler.close()


@app.command()
def explain(
    entities: Entities = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not look at the database.")] = False,
    accept: Annotated[
        list[str] | None, typer.Option(help="A warning that is meant so, as CODE or CODE:PLACE; may be repeated.")
    ] = None,
    as_json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a design review.")] = False,
) -> None:
    """Say per column what its strategy means: reads, crashes, staleness; warn about smells. Needs no server."""
    from .explain import command

    if as_json and markdown:
        raise ConfigurationError("--json and --markdown are two forms of one answer: give one of them")
    settings, reason = command.settings_of({"entities": entities} if entities else {}, offline=offline)
    form = "json" if as_json else "markdown" if markdown else "text"
    raise typer.Exit(command.run(settings, registry_of(settings), reason, accepted=accept or (), form=form))

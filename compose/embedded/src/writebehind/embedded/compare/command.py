"""`writebehind compare`: its command line. What it needs is imported when it is called, not when the CLI starts."""

from __future__ import annotations

import json
import logging
import signal
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from writebehind.embedded.errors import EmbeddedError

_COULD_NOT_RUN: Final = 2
_INTERRUPTED: Final = 130


def compare(  # a command's options are its parameters
    seconds: Annotated[float, typer.Option(min=0.5, help="Seconds of undisturbed load, for each strategy.")] = 10.0,
    reads: Annotated[float, typer.Option(min=0, max=0.99, help="The part of the calls that read.")] = 0.8,
    workers: Annotated[int, typer.Option(min=1, help="Calls at a time.")] = 16,
    keys: Annotated[int, typer.Option(min=1, help="Rows, equally likely.")] = 1_000,
    outage: Annotated[float, typer.Option(min=0.1, help="Seconds for which a server is away.")] = 5.0,
    output: Annotated[Path, typer.Option(help="Where to save the outcome: this name with .json and .html.")] = Path(
        "writebehind-compare"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Run cache-aside, write-through and write-behind under one load and measure what each costs and shows.

    On the servers that the settings name, in a corner of their own that is removed at the end; else on embedded ones,
    of which the cache and then the database are killed as well. Exit code 2: it could not run.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: everything is cleaned up
    logging.getLogger("writebehind").setLevel(logging.CRITICAL)  # outages are meant
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    try:
        from rich.console import Console

        from writebehind.shared.errors import WritebehindError

        from . import page, run, view
        from .load import Plan
    except ModuleNotFoundError as error:
        print(f"compare needs {error.name}: install writebehind-embedded[demo]", file=sys.stderr)
        raise typer.Exit(_COULD_NOT_RUN) from error
    try:
        found = run.run(Plan(seconds, reads, workers, keys, outage), Console(stderr=True))
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None
    except (EmbeddedError, WritebehindError) as error:
        print(f"the comparison could not run: {error}", file=sys.stderr)
        raise typer.Exit(_COULD_NOT_RUN) from error
    text = json.dumps(found.as_json(), indent=1)
    output.with_suffix(".json").write_text(text + "\n")
    output.with_suffix(".html").write_text(page.page(found))
    if as_json:
        print(text)
    else:
        view.show(Console() if sys.stdout.isatty() else Console(width=view.WIDTH), found)
    print(f"saved {output.with_suffix('.json')} and {output.with_suffix('.html')}", file=sys.stderr)

"""`writebehind stack`: the servers from the command line."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from writebehind.embedded.errors import EmbeddedError
from writebehind.embedded.stack import Stack

app = typer.Typer(no_args_is_help=True, help="Run Kafka, PostgreSQL and Valkey as child processes, without Docker.")

_COULD_NOT_RUN = 2


@app.callback()
def stack() -> None:
    """Run Kafka, PostgreSQL and Valkey as child processes, without Docker."""


@app.command()
def up(
    data: Annotated[
        Path | None, typer.Option(help="Keep the data in this folder over restarts; else it is removed at the end.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the settings as one line of JSON.")] = False,
) -> None:
    """Start the servers, print their settings as shell lines, and stop them at Ctrl-C or SIGTERM."""
    # Both end the same way, also in the middle of the start: an exception that the stack's clean-up sees.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print("starting Kafka, PostgreSQL and Valkey (the first start downloads about 60 MB)", file=sys.stderr)
    try:
        with Stack(data) as running:
            print(_settings(running.env(), as_json=as_json), flush=True)
            print("ready; Ctrl-C stops them", file=sys.stderr)
            while True:
                signal.pause()
    except KeyboardInterrupt:
        return
    except EmbeddedError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(_COULD_NOT_RUN) from error


def _settings(env: dict[str, str], *, as_json: bool) -> str:
    if as_json:
        return json.dumps(env)
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in env.items())

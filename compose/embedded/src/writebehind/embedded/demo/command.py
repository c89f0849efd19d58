"""`writebehind demo`: its command line. What the demo needs is imported when it is called, not when the CLI starts."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from typing import Annotated, Final

import typer

from writebehind.embedded.errors import EmbeddedError

_DIFFERENT: Final = 1
_COULD_NOT_RUN: Final = 2
_INTERRUPTED: Final = 130


def demo(
    limit: Annotated[int | None, typer.Option(min=2, help="Replay only the first departures, this many.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as one line of JSON.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running at the end, until Ctrl-C.")] = False,
) -> None:
    """Replay 336,776 real departures through the whole path, kill the flusher half-way, check every row and audit.

    Starts Kafka, PostgreSQL and Valkey, or uses those that the settings name; what it creates there is removed.

    Exit code 0: every row is exact and the audit found no drift; 1: not; 2: it could not run.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: everything is cleaned up
    # Warnings are of what is tried again; whether that went well is what the demo finds out.
    logging.getLogger("writebehind").setLevel(logging.ERROR)
    try:
        ok = _run(limit, as_json=as_json, keep=keep)
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None
    except _Refused as error:
        print(error, file=sys.stderr)
        raise typer.Exit(_COULD_NOT_RUN) from error
    raise typer.Exit(0 if ok else _DIFFERENT)


class _Refused(Exception):
    """The demo could not run; the text says why and what to do."""


def _run(limit: int | None, *, as_json: bool, keep: bool) -> bool:
    try:
        import psycopg
        from rich.console import Console

        from writebehind.embedded.demo import run, view
        from writebehind.shared.errors import WritebehindError
    except ModuleNotFoundError as error:
        raise _Refused(f"the demo needs {error.name}, which is not installed: run `make install`") from error
    console = Console(stderr=True)
    try:
        with run.run(limit, console) as outcome:
            if as_json:
                print(outcome.result.json(), flush=True)
            else:
                view.print_outcome(Console(), outcome)
            if keep:
                view.print_around(console, outcome.settings)
                with contextlib.suppress(KeyboardInterrupt):
                    while True:
                        signal.pause()
            return outcome.result.ok
    except (EmbeddedError, WritebehindError) as error:
        raise _Refused(f"the demo could not run: {error}") from error
    except psycopg.OperationalError as error:
        # Not the error's text: it may hold the connection's address and user.
        raise _Refused("the demo could not run: Postgres does not answer; check WRITEBEHIND_DATABASE__URL") from error

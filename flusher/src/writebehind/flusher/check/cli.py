"""The options of `writebehind check`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..grants.roles import Role
from ..prepare import prepare


def check(
    entities: Annotated[list[str] | None, typer.Option(help="Module that declares entities; may be repeated.")] = None,
    role: Annotated[Role, typer.Option(help="Whose rights are looked for: those this process has.")] = Role.FLUSHER,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at servers, rights, topics, cache and tables before going live. 1: something to mend, 2: could not check."""
    from .command import check as run
    from .command import show

    result = run(*prepare(entities), role)
    show(result, as_json=as_json)
    raise typer.Exit(result.exit_code)

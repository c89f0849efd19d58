"""The options of `writebehind grants`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import typer

from writebehind.shared.errors import ConfigurationError

from ..prepare import registry_of
from .roles import Role


def grants(
    entities: Annotated[list[str] | None, typer.Option(help="Module that declares entities; may be repeated.")] = None,
    role: Annotated[list[Role] | None, typer.Option(help="Only this role; may be repeated.")] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="What a role is called, as flusher=shop_flusher; may be repeated.")
    ] = None,
    tables_in: Annotated[str, typer.Option(help="Schema of the entities that name none.")] = "public",
    repairs: Annotated[bool, typer.Option("--repairs", help="The audit may also repair (--apply).")] = False,
    only: Annotated[
        Literal["sql", "cache", "kafka"] | None, typer.Option(help="Only these statements, to be piped into a tool.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the least rights of each part for Postgres, the cache and Kafka. Changes nothing, needs no server."""
    from ..explain.command import settings_of
    from . import command

    settings, _ = settings_of({"entities": entities} if entities else {}, offline=False)
    found = command.grants(
        settings,
        registry_of(settings),
        role or list(Role),
        names_of(name or ()),
        tables_in=tables_in,
        repairs=repairs,
    )
    command.show(found, only=only, as_json=as_json)


def names_of(given: Sequence[str]) -> dict[Role, str]:
    """Names by role from ROLE=NAME. Raises ConfigurationError."""
    names: dict[Role, str] = {}
    for text in given:
        role, equals, name = text.partition("=")
        if role not in list(Role) or not equals or not name:
            raise ConfigurationError(f"--name {text}: give ROLE=NAME; the roles are {', '.join(Role)}")
        names[Role(role)] = name
    return names

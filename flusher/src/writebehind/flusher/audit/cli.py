"""The commands `writebehind audit` and `writebehind whereis`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from writebehind.shared.registry import Registry
    from writebehind.shared.settings import Settings

Entities = Annotated[
    list[str] | None, typer.Option(help="Module that declares entities, such as shop.entities; may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ShowValues = Annotated[bool, typer.Option("--show-values", help="Also the values of fields.")]


def whereis(
    entity: Annotated[str, typer.Argument(help="The entity's name, such as player.")],
    key: Annotated[list[str], typer.Argument(help="The key as `letters list` prints it, or one value per key column.")],
    entities: Entities = None,
    show_values: ShowValues = False,
    as_json: Json = False,
) -> None:
    """Tell where one key's writes are: cache, Kafka, dead letters, row. Ends with 1 when cache and row have drifted."""
    from . import whereis_text
    from .diff import DRIFT, Verdict
    from .whereis import tell

    story = tell(*_prepare(entities), entity, key)
    told = whereis_text.as_json(story, values=show_values)
    print(json.dumps(told) if as_json else "\n".join(whereis_text.lines(told)))
    raise typer.Exit(1 if story.verdict in (*DRIFT, Verdict.UNREADABLE) else 0)


def _prepare(entities: list[str] | None) -> tuple[Settings, Registry]:
    from ..cli import _prepare  # pyright: ignore[reportPrivateUsage]  # the commands' own; it imports this module

    return _prepare(entities)

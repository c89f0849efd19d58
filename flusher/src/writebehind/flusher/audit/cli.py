"""The commands `writebehind audit` and `writebehind whereis`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..prepare import prepare
from .options import Repair

Entities = Annotated[
    list[str] | None, typer.Option(help="Module that declares entities, such as shop.entities; may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ShowValues = Annotated[bool, typer.Option("--show-values", help="Also the values of fields.")]


def audit(  # noqa: PLR0913, PLR0917  # a command's options are its parameters
    names: Annotated[
        list[str] | None, typer.Argument(help="Entities, such as player; none: all.", metavar="ENTITY")
    ] = None,
    entities: Entities = None,
    key: Annotated[
        list[str] | None, typer.Option(help="Only this key of the one entity, as `letters list` prints it; may repeat.")
    ] = None,
    sample: Annotated[str, typer.Option(help="Only a share of the keys, another one each time: 1% or 0.01.")] = "100%",
    keys_per_second: Annotated[float, typer.Option(min=0, help="Keys compared per second; 0: no limit.")] = 2_000,
    from_database: Annotated[
        bool, typer.Option("--from-database", help="Go through the rows, the newest first, instead of the cache.")
    ] = False,
    confirm: Annotated[
        float, typer.Option(min=0, help="Seconds that a difference must stay as it is before it counts.")
    ] = 10,
    wait: Annotated[
        float | None, typer.Option(min=0, help="Longest wait for writes under way, in seconds; then they are pending.")
    ] = None,
    repair: Annotated[
        Repair | None, typer.Option(help="What to do about drift. Without --apply only said, not done.")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Do the repairs.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the last run of these options, if it was interrupted.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Audit again and again, until SIGTERM or Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(min=0, help="Seconds between two runs of --watch.")] = 60,
    html: Annotated[
        Path | None, typer.Option(help="Also write a page with plots of this run and those before.")
    ] = None,
    show_values: ShowValues = False,
    as_json: Json = False,
) -> None:
    """Compare every cached entry with its row, while writes go on. Ends with 0 in sync, 1 drift, 2 could not audit."""
    from . import command

    settings, registry = prepare(entities)
    options = command.options(
        settings,
        registry,
        names=names or (),
        keys=key or (),
        sample=sample,
        keys_per_s=keys_per_second,
        from_database=from_database,
        confirm_s=confirm,
        wait_s=wait,
        repair=repair,
        apply=apply,
        show_values=show_values,
    )
    output = command.Output(as_json=as_json, html=html)
    interval_s = interval if watch else None
    raise typer.Exit(command.run(settings, registry, options, output, resume=resume, interval_s=interval_s))


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

    story = tell(*prepare(entities), entity, key)
    told = whereis_text.as_json(story, values=show_values)
    print(json.dumps(told) if as_json else "\n".join(whereis_text.lines(told)))
    raise typer.Exit(1 if story.verdict in (*DRIFT, Verdict.UNREADABLE) else 0)

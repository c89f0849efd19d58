"""How letters are shown: as JSON, as a table, one of them whole; and the progress of a long run."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from writebehind.shared.errors import ConfigurationError
from writebehind.shared.letter import CONNECT, OURS
from writebehind.shared.record import DELETE, KEYS, MASK, BadRecord, Codec
from writebehind.shared.registry import Registry

from .item import VOID, Item, Message, place_text
from .scan import Meter

TABLE_ROWS = 200  # a longer list is several tables, so that it needs no more memory than one
_STYLES = {"refused": "red", VOID: "dim", "discarded": "dim"}


def as_json(item: Item) -> dict[str, Any]:
    """The stable JSON form of a letter, without any value of its row but the key."""
    row, message = item.row, item.message
    found: dict[str, Any] = {
        "letter": place_text(item.origin),
        "topic": item.origin.topic,
        "topic_id": item.origin.topic_id,
        "partition": item.origin.partition,
        "offset": item.origin.offset,
        "entity": item.entity,
        "state": item.state,
        "replay_count": 0 if row is None else row.replay_count,
        "changed_at": None if row is None else row.changed_at.isoformat(),
        "changed_by": None if row is None else row.changed_by,
        "contested": item.contested,
        "message": None,
    }
    if message is not None:
        letter, cause = message.letter, message.letter.cause
        found |= {
            "message": message.source,
            "key": message.key_text,
            "version": letter.version,
            "table": letter.table,
            "stage": cause.stage,
            "exception": cause.exception,
            "reason": cause.message,
            "sqlstate": cause.sqlstate,
            "constraint": cause.constraint,
            "column": cause.column,
            "attempts": cause.attempts,
            "first_failed_at": cause.first_failed_at,
            "last_failed_at": cause.last_failed_at,
        }
    return found


def whole(item: Item, registry: Registry, *, values: bool) -> dict[str, Any]:
    """A letter with all its headers. What came with the record itself is left out without `values`."""
    found = as_json(item)
    message = item.message
    if message is None:
        return found
    found["headers"] = [
        [name, _header(value) if values or name.startswith((CONNECT, OURS)) else "(hidden: --show-values)"]
        for name, value in message.headers
    ]
    found["value_bytes"] = None if message.value is None else len(message.value)
    if values:
        found["value"] = None if message.value is None else base64.b64encode(message.value).decode()
        found["fields"] = fields(message, registry)
    return found


def fields(message: Message, registry: Registry) -> dict[str, str | None] | str:
    """The patch, as text by field; or why it cannot be read."""
    try:
        declaration = registry[message.letter.entity]
        (row,) = Codec(declaration).decode([message.value])
    except ConfigurationError:
        return "the entity is not declared"
    except BadRecord as error:
        return error.reason
    if row[MASK] == DELETE:
        return "a delete"
    first = KEYS + len(declaration.keys)
    touched = [c for c in declaration.fields if row[MASK] & c.bit]
    return {c.name: None if row[first + c.position] is None else str(row[first + c.position]) for c in touched}


def print_json(item: dict[str, Any]) -> None:
    """One line."""
    print(json.dumps(item), flush=True)


def tables(items: Iterable[Item]) -> Iterator[Table]:
    """The letters as tables of a bounded size each."""
    iterator = iter(items)
    while page := list(islice(iterator, TABLE_ROWS)):
        table = Table()
        for name in ("letter", "entity", "key", "state", "reason", "constraint", "refused at", "replays"):
            table.add_column(name, justify="right" if name == "replays" else "left", overflow="fold")
        for item in page:
            table.add_row(*_cells(item))
        yield table


def _cells(item: Item) -> list[Text]:
    cells = [place_text(item.origin), item.entity]
    if item.message is None:
        cells += ["–", item.state, "its message is gone", "–", "–"]
    else:
        cause = item.message.letter.cause
        reason = cause.sqlstate or cause.exception.rpartition(".")[2]
        reason += " (contested)" if item.contested else ""
        place = cause.constraint or cause.column or "–"
        key = item.message.key_text
        cells += ["–" if key is None else key, item.state, reason, place, cause.last_failed_at[:19]]
    cells.append("–" if item.row is None else str(item.row.replay_count))
    return [Text(printable(cell), style=_STYLES.get(cell, "")) for cell in cells]


def printable(text: str) -> str:
    """A key or a header must not be able to steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _header(value: bytes | str | None) -> str | None:
    return value if value is None or isinstance(value, str) else value.decode(errors="backslashreplace")


class Bar(Meter):
    """A progress bar on standard error, where that is a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(
            *columns, console=self._console, transient=True, disable=not self._console.is_terminal
        )
        self._task = self._progress.add_task("", total=None, visible=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def start(self, what: str, total: int) -> None:
        self._progress.reset(self._task, total=total, description=what, visible=True)

    def advance(self, units: int) -> None:
        self._progress.advance(self._task, units)

"""The dead letter: what `<topic>.dlq` keeps of a record that the database refused, or that could not be read.

Key, value and headers are the record's own, byte for byte; the headers here are added to them. The names under
`__connect.errors.` are Kafka Connect's, so that its tools can read our letters; no header holds a row's values.

A letter counts only if `writebehind.letter` has a row for its place: the row is written by the transaction that skips
the record. A letter without one is of a flusher that died or was fenced before it could skip anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Headers = list[tuple[str, bytes]]

CONNECT = "__connect.errors."
OURS = "writebehind."

UNREADABLE, REFUSED = "VALUE_CONVERTER", "TASK_PUT"  # Connect's names of the stages


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record came from: for ever unique, because a topic made again has another id."""

    topic: str
    topic_id: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a record became a letter. Times are ISO 8601 with a zone; `sqlstate` and what follows are None if unknown."""

    stage: str
    exception: str
    message: str
    sqlstate: str | None
    constraint: str | None
    column: str | None
    attempts: int
    first_failed_at: str
    last_failed_at: str


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter's headers, read back. `version` is None for a record that could not be read."""

    origin: Origin
    entity: str
    table: str
    version: int | None
    cause: Cause
    own: Headers  # the record's own headers


class NotALetter(Exception):
    """The message lacks a header that every letter has, or one cannot be read; the message names it."""


def headers(
    own: Iterable[tuple[str, bytes | str | None]] | None,
    origin: Origin,
    *,
    entity: str,
    table: str,
    version: int | None,
    cause: Cause,
    connector: str,
    task: str,
) -> list[tuple[str, bytes | str | None]]:
    """The headers of a letter: the record's own, then Connect's, then ours."""
    connect = {
        "topic": origin.topic,
        "partition": str(origin.partition),
        "offset": str(origin.offset),
        "connector.name": connector,
        "task.id": task,
        "stage": cause.stage,
        "exception.class.name": cause.exception,
        "exception.message": cause.message,
        "exception.stacktrace": "",
    }
    ours = {
        "topic_id": origin.topic_id,
        "entity": entity,
        "table": table,
        "version": None if version is None else str(version),
        "sqlstate": cause.sqlstate,
        "constraint": cause.constraint,
        "column": cause.column,
        "attempts": str(cause.attempts),
        "first_failed_at": cause.first_failed_at,
        "last_failed_at": cause.last_failed_at,
    }
    return [
        *(own or ()),
        *((CONNECT + name, text.encode()) for name, text in connect.items()),
        *((OURS + name, text.encode()) for name, text in ours.items() if text is not None),
    ]


def read(message_headers: Sequence[tuple[str, bytes | str | None]] | None) -> Letter:
    """Read a letter's headers back. Raises NotALetter."""
    found = {name: value for name, value in message_headers or () if name.startswith((CONNECT, OURS))}

    def text(name: str) -> str | None:
        value = found.get(name)
        try:
            return value.decode() if isinstance(value, bytes) else value
        except UnicodeDecodeError:
            raise NotALetter(f"header {name} is not text") from None

    def needed(name: str) -> str:
        value = text(name)
        if value is None:
            raise NotALetter(f"there is no header {name}")
        return value

    def number(name: str) -> int:
        value = needed(name)
        if not value.isascii() or not value.isdigit():
            raise NotALetter(f"header {name} is not a number")
        return int(value)

    origin = Origin(
        needed(CONNECT + "topic"), needed(OURS + "topic_id"), number(CONNECT + "partition"), number(CONNECT + "offset")
    )
    cause = Cause(
        needed(CONNECT + "stage"),
        needed(CONNECT + "exception.class.name"),
        needed(CONNECT + "exception.message"),
        text(OURS + "sqlstate"),
        text(OURS + "constraint"),
        text(OURS + "column"),
        number(OURS + "attempts"),
        needed(OURS + "first_failed_at"),
        needed(OURS + "last_failed_at"),
    )
    version = number(OURS + "version") if OURS + "version" in found else None
    own = [(name, value) for name, value in message_headers or () if name not in found]
    return Letter(
        origin,
        needed(OURS + "entity"),
        needed(OURS + "table"),
        version,
        cause,
        [(name, value.encode() if isinstance(value, str) else value or b"") for name, value in own],
    )

"""Letters in a file: one JSON object a line, bytes in base64, so that every message comes back byte for byte.

    {"writebehind_letter": 1, "letter": "TOPIC/PARTITION/OFFSET", "topic_id": …, "entity": …, "state": …, "key": …,
     "value": …, "headers": [[name, …], …], "sha256": …}

`key`, `value`, `headers` and `sha256`, which is over these three, are what is read back. The rest is for people: where
a letter belongs is said by its headers.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec

from writebehind.shared.letter import NotALetter

from .item import Item, Message, RawHeaders, parse, place_text

LINE_BYTES_MAX = 64 * 1024 * 1024  # no record is as large; a file without line ends must not fill the memory
_json = msgspec.json.Encoder()


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """A line as it is read and written."""

    writebehind_letter: int
    letter: str
    topic_id: str
    entity: str
    state: str
    key: str | None
    value: str | None
    headers: list[tuple[str, str | None]]
    sha256: str


class BadLine(Exception):
    """A line that holds no letter, or one that was changed. The message names the line and no values."""


def encode(item: Item, message: Message) -> bytes:
    """One line, with its end."""
    line = Line(
        1,
        place_text(item.origin),
        item.origin.topic_id,
        item.entity,
        item.state,
        _text(message.key),
        _text(message.value),
        [(name, _text(value)) for name, value in message.headers],
        _checksum(message.key, message.value, message.headers),
    )
    return _json.encode(line) + b"\n"


def decode(text: bytes, source: str) -> Message:
    """The letter of a line. Raises BadLine."""
    try:
        line = msgspec.json.decode(text, type=Line)
        if line.writebehind_letter != 1:
            raise BadLine(f"{source}: written by a newer version")
        key, value = _bytes(line.key), _bytes(line.value)
        headers = [(name, _bytes(held)) for name, held in line.headers]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadLine(f"{source}: not a line of `letters export`") from None
    except ValueError:
        raise BadLine(f"{source}: not base64") from None
    if _checksum(key, value, headers) != line.sha256:
        raise BadLine(f"{source}: changed since it was exported: its checksum is another")
    try:
        return parse(key, value, headers, source)
    except NotALetter as error:
        raise BadLine(f"{source}: not a letter: {error}") from None


def read(file: BinaryIO, name: str) -> Iterator[tuple[int, Message | BadLine]]:
    """The letters of a file, each with the size of its line; bad lines are given, not raised."""
    number = 0
    while text := file.readline(LINE_BYTES_MAX):
        number += 1
        if not text.strip():
            continue
        try:
            yield len(text), decode(text, f"{name}, line {number}")
        except BadLine as bad:
            yield len(text), bad


def _checksum(key: bytes | None, value: bytes | None, headers: RawHeaders) -> str:
    parts: list[Any] = [key, value, [list(header) for header in headers]]
    return hashlib.sha256(msgspec.msgpack.encode(parts)).hexdigest()


def _text(value: bytes | str | None) -> str | None:
    if value is None:
        return None
    return base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)

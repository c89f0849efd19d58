"""A dead letter as the commands see it: a message of a dead-letter topic (or of an export) and its row in Postgres."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from writebehind.shared.letter import Letter, NotALetter, Origin, read

RawHeaders = Sequence[tuple[str, bytes | None]]
Place = tuple[str, int, int]  # topic, partition and offset of the record, as people name it

REFUSED, APPLIED, SUPERSEDED, DISCARDED = STATES = ("refused", "applied", "superseded", "discarded")
VOID = "void"  # a message without a row: the flusher that wrote it never skipped the record


@dataclass(frozen=True, slots=True)
class Message:
    """A message that has a letter's headers. `source` says where it was read: a topic's place, or a file's line."""

    key: bytes | None
    value: bytes | None
    headers: RawHeaders
    letter: Letter
    source: str

    @property
    def key_text(self) -> str | None:
        """The key as text, for people and for filters; bytes that are none are escaped."""
        return None if self.key is None else self.key.decode(errors="backslashreplace")

    @property
    def digest(self) -> bytes:
        """Equal for two letters of one record: everything but when and why it was refused, which each attempt tells."""
        kept = self.letter
        parts = (self.key, self.value, kept.own, kept.origin.topic, kept.entity, kept.table, kept.version)
        return hashlib.blake2b(msgspec.msgpack.encode(parts), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class LetterRow:
    """A row of `letter`."""

    origin: Origin
    entity: str
    state: str
    replay_count: int
    changed_at: dt.datetime
    changed_by: str


@dataclass(frozen=True, slots=True)
class Item:
    """One letter. `row` None: void; `message` None: the topic lost it, which only open letters are shown for.

    `contested`: messages of this origin differ, so that at most one of them is the record.
    """

    origin: Origin
    row: LetterRow | None
    message: Message | None
    contested: bool = False

    @property
    def entity(self) -> str:
        if self.row is not None:
            return self.row.entity
        return "" if self.message is None else self.message.letter.entity

    @property
    def state(self) -> str:
        return VOID if self.row is None else self.row.state

    @property
    def place(self) -> Place:
        return self.origin.topic, self.origin.partition, self.origin.offset


def place_text(origin: Origin) -> str:
    """TOPIC/PARTITION/OFFSET."""
    return f"{origin.topic}/{origin.partition}/{origin.offset}"


def parse_place(text: str) -> Place:
    """The other way round. Raises ValueError."""
    topic, partition, offset = text.rsplit("/", 2)
    if not (topic and partition.isdecimal() and offset.isdecimal()):
        raise ValueError(f"{text!r} is not TOPIC/PARTITION/OFFSET")
    return topic, int(partition), int(offset)


def parse(key: bytes | None, value: bytes | None, headers: RawHeaders, source: str) -> Message:
    """Read a message's headers. Raises NotALetter, also for what could never be a row's place."""
    try:
        letter = read(list(headers))
    except ValueError:  # more digits than Python turns into a number
        raise NotALetter("a number has too many digits") from None
    origin = letter.origin
    if origin.partition >= 2**31 or origin.offset >= 2**63:
        raise NotALetter("its partition or offset is out of range")
    if "\0" in origin.topic + origin.topic_id + letter.entity:
        raise NotALetter("a name holds a NUL")
    return Message(key, value, headers, letter, source)

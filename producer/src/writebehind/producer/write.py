"""One write on its way: checked and put into the forms that the cache and the record need. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from confluent_kafka import KafkaError, Message

from writebehind.shared import naming
from writebehind.shared.declaration import Declaration
from writebehind.shared.entity import Merge
from writebehind.shared.errors import InvalidWrite, NotApplied, Unknown
from writebehind.shared.patch import NO_PATCH, Forms, PatchEncoder
from writebehind.shared.record import DELETE, Codec
from writebehind.shared.scripts import Applied, EntityScripts

from .delivery import is_definite

RECORD_OVERHEAD_BYTES = 512  # batch header, framing and the header of a trace, rounded up
UNKNOWN_OFFSET = -1
NOWHERE = -1  # the partition of a write that is not durable: it failed, or nobody has answered for it

Headers = list[tuple[str, str | bytes | None]]


class Target:
    """What the client keeps per entity: its declaration compiled for writing."""

    def __init__(self, declaration: Declaration, topic_prefix: str, cache_prefix: str) -> None:
        self.declaration = declaration
        self.name = declaration.name
        self.on_broker_down = declaration.write_behind.on_broker_down
        self.topic = naming.topic(topic_prefix, declaration.name)
        self.codec = Codec(declaration)
        self.key_text = declaration.key_text
        self.encode = PatchEncoder(declaration).encode
        self.scripts = EntityScripts(declaration)
        self.entry_start, self.entry_end = naming.cache_key(cache_prefix, declaration.name, "\0").split("\0")

    def entry(self, key_text: str) -> str:
        """The cache key of a row."""
        return f"{self.entry_start}{key_text}{self.entry_end}"


class Write(msgspec.Struct, eq=False, gc=False):
    """A write, from the checked call to the broker's answer. `group` is told when the answer is there.

    The garbage collector leaves it alone, because going over thousands of writes under way took a tenth of the time:
    so nothing that it holds may lead back to it, as the frames of an error that was raised would.
    """

    target: Target
    key: tuple[Any, ...]
    key_text: str
    entry: str
    cache_patch: msgspec.Raw
    rest: bytes  # the record's, see Codec
    size_bytes: int
    version: int = 0
    partition: int = NOWHERE
    offset: int = UNKNOWN_OFFSET
    generation: int = 0  # of the cache entry; 0: the cache was not written
    applied: Applied | None = None  # what an undo needs, as long as there may be one
    needs_base: str | None = None  # a token, or '' when somebody else is loading the base
    error: KafkaError | None = None
    failure: Exception | None = None  # what ended the write before it was handed over; set by `fail`
    headers: Headers | None = None  # when it was written within a trace
    group: Any = None
    on_delivery: Any = None

    @classmethod
    def of(cls, target: Target, key: tuple[Any, ...], forms: Forms) -> Write:
        """A write of a checked key and patch."""
        mask, fields, patch, size = forms
        text = target.key_text(key)
        entry = f"{target.entry_start}{text}{target.entry_end}"
        size += len(text) + RECORD_OVERHEAD_BYTES
        return cls(target, key, text, entry, patch, target.codec.rest(mask, key, fields), size)

    def __repr__(self) -> str:  # without the key and the values, which may be personal data
        return f"<Write {self.target.name} version {self.version}>"

    def record(self) -> bytes:
        """The record to enqueue, under the version that was assigned."""
        return self.target.codec.record(self.version, self.generation, self.rest)

    @property
    def ended(self) -> bool:
        """Whether the broker has answered for it, or will not be asked."""
        return self.partition >= 0 or self.error is not None or self.failure is not None

    def fail(self, error: Exception) -> None:
        """It ends before it is handed over."""
        self.failure = _without_frames(error)

    def outcome(self) -> Exception | None:
        """What went wrong, once the group's signal is set; None when the write is durable. Each time a new one."""
        if self.failure is not None:
            return _copy(self.failure)
        if self.error is None:
            return None
        place = f"{self.target.declaration.cls.__name__}: the broker did not take the write"
        if is_definite(self.error):
            return NotApplied(f"{place} ({self.error.name()}); it was not applied, and the cache does not show it")
        return Unknown(f"{place} for certain ({self.error.name()}); it is applied once or not at all", self.version)

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        """The delivery report; called in the poll thread, so it only takes notes. It must not raise.

        Not a method by name, which would be one more object per write for the garbage collector.
        """
        self.error = error
        if error is None:
            self.partition = message.partition() or 0
            # None after a retry that the broker took for a repetition: it is on the log, and nobody said where.
            offset = message.offset()
            self.offset = UNKNOWN_OFFSET if offset is None else offset
        self.on_delivery(self)


def _without_frames(error: Exception) -> Exception:
    link: BaseException | None = error
    while link is not None and link.__traceback__ is not None:  # else it was never raised, or has none any more
        link.__traceback__ = link.__context__ = None
        link = link.__cause__
    return error


def _copy(error: Exception) -> Exception:
    """Another one of the same, to be raised; whatever its class asks for when it is made."""
    copy = type(error).__new__(type(error))
    copy.args, copy.__cause__, copy.__dict__ = error.args, error.__cause__, error.__dict__.copy()
    return copy


def check_update(target: Target, key: Any, patch: Mapping[str, Any], *, size_max: int) -> Write:
    """A checked write. Raises InvalidWrite, also when its record would be larger than the topic allows."""
    write = Write.of(target, target.declaration.check_key(key), target.encode(patch))
    if write.size_bytes * 4 > size_max:  # a character has at most four bytes: only a write near the limit is measured
        _measure(write, size_max)
    return write


def check_add(target: Target, key: Any, patch: Mapping[str, Any], *, size_max: int) -> Write:
    """A checked increment: only Sum fields. Raises InvalidWrite."""
    declaration = target.declaration
    for name, value in patch.items():
        column = declaration.by_name.get(name)
        if column is not None and column.merge is not Merge.SUM:
            raise InvalidWrite(
                declaration.cls.__name__,
                name,
                type(value).__name__,
                "cannot be added to: it is not declared Sum; use update",
            )
    return check_update(target, key, patch, size_max=size_max)


def check_delete(target: Target, key: Any) -> Write:
    """A checked delete. Raises InvalidWrite."""
    declaration = target.declaration
    if not declaration.write_behind.deletes:
        raise InvalidWrite(
            declaration.cls.__name__, None, "delete", "deletes must be declared: WriteBehind(deletes=True)"
        )
    return Write.of(target, declaration.check_key(key), (DELETE, [None] * len(declaration.fields), NO_PATCH, 0))


def _measure(write: Write, size_max: int) -> None:
    record = write.target.codec.record(2**60, 2**60, write.rest)
    write.size_bytes = len(record) + len(write.key_text.encode()) + RECORD_OVERHEAD_BYTES
    if write.size_bytes > size_max:
        name = write.target.declaration.cls.__name__
        rule = f"the record would have {write.size_bytes} bytes, the topic allows {size_max} (kafka.max_message_bytes)"
        raise InvalidWrite(name, None, "patch", rule)

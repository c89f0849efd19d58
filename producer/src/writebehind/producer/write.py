"""One write on its way: checked and put into the forms that the cache and the record need. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, Message

from writebehind.shared import naming
from writebehind.shared.declaration import Declaration
from writebehind.shared.entity import Merge
from writebehind.shared.errors import InvalidWrite, NotApplied, Unknown
from writebehind.shared.kinds import CACHE_NULL
from writebehind.shared.record import Codec
from writebehind.shared.scripts import Applied, EntityScripts

from .delivery import is_definite

RECORD_OVERHEAD_BYTES = 512  # batch header and framing, rounded up


class Target:
    """What the client keeps per entity: its declaration compiled for writing."""

    def __init__(self, declaration: Declaration, topic_prefix: str, cache_prefix: str) -> None:
        self.declaration = declaration
        self.topic = naming.topic(topic_prefix, declaration.name)
        self.codec = Codec(declaration)
        self.key_text = declaration.key_text
        self.scripts = EntityScripts(declaration)
        self._entry_start, self._entry_end = naming.cache_key(cache_prefix, declaration.name, "\0").split("\0")

    def entry(self, key_text: str) -> str:
        """The cache key of a row."""
        return f"{self._entry_start}{key_text}{self._entry_end}"


class Write:
    """A write, from the checked call to the broker's answer. `group` is told when the answer is there."""

    version = 0
    partition = -1
    offset = -1
    applied: Applied | None = None  # None: the cache was not written
    needs_base: str | None = None  # a token, or '' when somebody else is loading the base
    error: KafkaError | None = None
    failure: Exception | None = None  # what ended the write before it was handed over
    group: Any = None
    on_delivery: Any = None

    def __init__(
        self,
        target: Target,
        key: tuple[Any, ...],
        wire: list[tuple[int, Any]],
        cached: list[tuple[int, str]],
        size_bytes: int,
    ) -> None:
        self.target = target
        self.key = key
        self.key_text = text = target.key_text(key)
        self.entry = target.entry(text)
        self.wire_patch = wire
        self.cache_patch = cached
        self.size_bytes = size_bytes + len(text)

    def record(self) -> bytes:
        """The record to enqueue, under the version that was assigned."""
        generation = self.applied.generation if self.applied else 0
        return self.target.codec.encode(self.version, generation, self.key, self.wire_patch)

    def outcome(self) -> Exception | None:
        """What went wrong, once the group's signal is set; None when the write is durable."""
        if self.failure is not None:
            return self.failure
        if self.error is None:
            return None
        place = f"{self.target.declaration.cls.__name__}: the broker did not take the write"
        if is_definite(self.error):
            return NotApplied(f"{place} ({self.error.name()}); it was not applied, and the cache does not show it")
        return Unknown(f"{place} for certain ({self.error.name()}); it is applied once or not at all", self.version)

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        """The delivery report; called in the poll thread, so it only takes notes. It must not raise."""
        self.error = error
        if error is None:
            self.partition = message.partition() or 0
            self.offset = message.offset() or 0
        self.on_delivery(self)


def check_update(target: Target, key: Any, patch: Mapping[str, Any], *, size_max: int) -> Write:
    """A checked write. Raises InvalidWrite, also when its record would be larger than the topic allows."""
    declaration = target.declaration
    wire_key = declaration.check_key(key)
    wire: list[tuple[int, Any]] = []
    cached: list[tuple[int, str]] = []
    size_bytes = RECORD_OVERHEAD_BYTES
    for column, value in declaration.check_patch(patch):
        position = column.position
        if value is None:
            wire.append((position, None))
            cached.append((position, CACHE_NULL))
            continue
        kind = column.kind
        text = kind.to_cache(value)
        wire.append((position, value if kind.to_wire is None else kind.to_wire(value)))
        cached.append((position, text))
        size_bytes += len(text)
    write = Write(target, wire_key, wire, cached, size_bytes)
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
    return Write(target, declaration.check_key(key), [], [], RECORD_OVERHEAD_BYTES)


def _measure(write: Write, size_max: int) -> None:
    record = write.target.codec.encode(2**60, 2**60, write.key, write.wire_patch)
    write.size_bytes = len(record) + len(write.key_text.encode()) + RECORD_OVERHEAD_BYTES
    if write.size_bytes > size_max:
        name = write.target.declaration.cls.__name__
        rule = f"the record would have {write.size_bytes} bytes, the topic allows {size_max} (kafka.max_message_bytes)"
        raise InvalidWrite(name, None, "patch", rule)

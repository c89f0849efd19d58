"""Reading the dead letters of a flusher test's corner."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from tests.integration.flusher_process import TIMEOUT_S
from tests.integration.flusher_world import World
from writebehind.shared import letter, naming
from writebehind.shared.declaration import declaration_of
from writebehind.shared.entity import Entity
from writebehind.shared.record import Codec

_VERSIONS = itertools.count(1_800_000_000_000_000)


@dataclass(frozen=True, slots=True)
class Posted:
    """One message of a dead-letter topic."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, Any]]
    letter: letter.Letter

    @property
    def place(self) -> tuple[int, int]:
        return self.letter.origin.partition, self.letter.origin.offset


def posted(w: World, cls: type[Entity]) -> list[Posted]:
    """Every letter that is in the entity's dead-letter topic now, by where its record came from."""
    topic = naming.dead_letter_topic(w.topic(cls))
    consumer = Consumer({"bootstrap.servers": w.corner.bootstrap_servers, "group.id": f"{w.corner.group}-letters"})
    try:
        partitions = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions
        found: list[Posted] = []
        for number in partitions:
            start, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=TIMEOUT_S)
            consumer.assign([TopicPartition(topic, number, start)])
            for message in consumer.consume(end - start, TIMEOUT_S) if end > start else []:
                assert message.error() is None
                headers: Any = message.headers() or []
                found.append(Posted(message.key(), message.value(), headers, letter.read(headers)))
    finally:
        consumer.close()
    return sorted(found, key=lambda one: one.place)


def skipped(w: World, cls: type[Entity]) -> list[tuple[int, int]]:
    """The records that Postgres knows to be skipped, by partition and offset."""
    return sorted(
        w.query("SELECT partition, \"offset\" FROM {}.letter WHERE topic = %s AND state = 'refused'", w.topic(cls))
    )


def put_bad(w: World, cls: type[Entity], key: Any, *, partition: int, **patch: Any) -> bytes:
    """Put a write that the table refuses; the tally knows nothing of it. Gives the record."""
    declaration = declaration_of(cls)
    wire_key = declaration.check_key(key)
    fields = declaration.check_patch(patch) if patch else []
    wire = [(c.position, v if v is None or c.kind.to_wire is None else c.kind.to_wire(v)) for c, v in fields]
    value = Codec(declaration).encode(next(_VERSIONS), 0, wire_key, wire)
    w.raw(cls, value, declaration.key_text(wire_key), partition)
    return value

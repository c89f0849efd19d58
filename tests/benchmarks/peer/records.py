"""The load in a format that Kafka Connect reads: JSON of the same rows, on the same partitions in the same order."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ..load import Load, produce

SCHEMA = {
    "type": "struct",
    "name": "Row",
    "fields": [
        {"field": "id", "type": "int64"},
        {"field": "name", "type": "string"},
        {"field": "score", "type": "int64"},
        {"field": "updated_at", "type": "string", "name": "io.debezium.time.ZonedTimestamp", "version": 1},
    ],
}


def topic(load: Load) -> str:
    """The peer's topic for the load."""
    return f"peer.{load.name}"


def prefill(load: Load, bootstrap_servers: str) -> None:
    """Put the load's rows on the peer's topic."""
    produce(bootstrap_servers, topic(load), _records(load))


def _records(load: Load) -> Iterator[tuple[bytes, str]]:
    for _, _, _, _, key, name, score, updated_at in load.rows():
        row = {"id": key, "name": name, "score": score, "updated_at": updated_at.isoformat().replace("+00:00", "Z")}
        yield json.dumps(row, separators=(",", ":")).encode(), load.declaration.key_text((key,))

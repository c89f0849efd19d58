"""The load in a format that Kafka Connect reads: JSON of the same rows, on the same partitions in the same order."""

from __future__ import annotations

import json

from confluent_kafka import Producer

from ..load import Load

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
    text = load.declaration.key_text
    producer = Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "linger.ms": 20,
        }
    )
    for _, _, _, _, key, name, score, updated_at in load.rows():
        row = {"id": key, "name": name, "score": score, "updated_at": updated_at.isoformat().replace("+00:00", "Z")}
        value = json.dumps(row, separators=(",", ":")).encode()
        while True:
            try:
                producer.produce(topic(load), value, text((key,)).encode())
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(60):
        raise RuntimeError("the broker did not take the load")

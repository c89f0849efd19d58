"""Loads for the flush benchmark: the records, put on Kafka and into the cache as the producer would leave them."""

from __future__ import annotations

import datetime as dt
import itertools
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from writebehind.shared import naming
from writebehind.shared.bookkeeping import short_names
from writebehind.shared.declaration import Declaration, declaration_of
from writebehind.shared.entity import Entity
from writebehind.shared.record import Codec

from . import entities

PARTITIONS = 4
Headers = list[tuple[str, str | bytes | None]]
FIRST_VERSION = 1_700_000_000_000_000


@dataclass(frozen=True, slots=True)
class Load:
    """`keys[i]` is the key of record i; `table_rows` exist in the table before each run."""

    name: str
    cls: type[Entity]
    keys: Sequence[int]
    table_rows: int

    @property
    def declaration(self) -> Declaration:
        return declaration_of(self.cls)

    @property
    def topic(self) -> str:
        return naming.topic("writebehind.", self.declaration.name)

    def rows(self) -> list[tuple[Any, ...]]:
        """The records, decoded."""
        now = dt.datetime.now(dt.UTC)
        fingerprint = self.declaration.fingerprint
        created: dict[int, int] = {}  # generation: the version of the key's first write
        return [
            (fingerprint, version, created.setdefault(key, version), 7, key, f"name {key}", version, now)
            for version, key in enumerate(self.keys, FIRST_VERSION)
        ]


def loads(records: int) -> list[Load]:
    """Fresh inserts, random updates, and 1,000 hot keys. Seeded: every run has the same."""
    chance = random.Random(20130101)
    return [
        Load("insert", entities.BenchInsert, range(records), 0),
        Load("update", entities.BenchUpdate, chance.choices(range(records), k=records), records),
        Load("hot", entities.BenchHot, chance.choices(range(1000), k=records), 1000),
    ]


def create_topic(bootstrap_servers: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    for future in admin.create_topics([NewTopic(topic, PARTITIONS, 1)]).values():
        future.result()


def prefill_kafka(load: Load, bootstrap_servers: str, headers: Iterable[Headers | None] | None = None) -> None:
    """Put the load's records on its topic, each with its headers."""
    codec, text = Codec(load.declaration), load.declaration.key_text
    records = (
        (codec.encode(row[1], row[2], row[4:5], list(enumerate(row[5:]))), text(row[4:5])) for row in load.rows()
    )
    produce(bootstrap_servers, load.topic, records, headers)


def produce(
    bootstrap_servers: str,
    topic: str,
    records: Iterable[tuple[bytes, str]],
    headers: Iterable[Headers | None] | None = None,
) -> None:
    """Put records, each a value and a key's text, on a topic, and wait until the broker has them."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "linger.ms": 20,
        }
    )
    for (value, key_text), found in zip(records, headers or itertools.repeat(None), strict=False):
        while True:
            try:
                producer.produce(topic, value, key_text.encode(), headers=found)
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(60):
        raise RuntimeError("the broker did not take the load")


def prefill_cache(load: Load, url: str) -> None:
    """One pending entry per key, as the write script would leave it, so that settling has its real work to do."""
    client = redis.Redis.from_url(url)
    pipeline = client.pipeline(transaction=False)
    pending = Counter(load.keys)
    marks = "".join(short_names([column.name for column in load.declaration.fields]))
    written: dict[int, tuple[Any, ...]] = {}
    for row in load.rows():
        written[row[4]] = row
    for key, (_, version, generation, _, _, name, score, _) in written.items():
        fields: dict[Any, Any] = {
            "#": f"{version:016d} {generation:016d}p{pending[key]} ={marks}",
            "name": name,
            "score": score,
            "updated_at": "2026-01-01T00:00:00.000000+00:00",
        }
        pipeline.hset(naming.cache_key("wb", load.declaration.name, str(key)), mapping=fields)
        if len(pipeline) >= 1000:
            pipeline.execute()
    pipeline.execute()
    client.close()

"""What the producer's tests store, and where: tables, topics, and a look at what is in the cache and on the topic."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

import psycopg
import redis
from confluent_kafka import Consumer, TopicPartition

from tests.integration.guarded import Corner, settings_of
from writebehind.embedded import Isolation
from writebehind.flusher.migrate import migrate
from writebehind.producer import Entity, Int2, Key, Max, Min, Numeric, Settings, Sum, WriteBehind
from writebehind.shared import naming
from writebehind.shared.declaration import declaration_of
from writebehind.shared.record import Codec, Row
from writebehind.shared.registry import Registry


class Player(Entity, table="players", strategy=WriteBehind(flush_delay_s=0.05)):
    """One field of each merge."""

    id: Annotated[int, Key]
    name: str | None = None
    score: Annotated[int, Sum] = 0
    small: Annotated[int, Int2, Sum] = 0
    balance: Annotated[Decimal, Numeric(12, 2), Sum] = Decimal("0.00")
    best: Annotated[int | None, Max] = None
    first: Annotated[dt.datetime | None, Min] = None


class Visit(Entity, table="visits", strategy=WriteBehind(flush_delay_s=0.05, deletes=True, on_broker_down="shed")):
    """A composite key of texts, and deletes."""

    site: Annotated[str, Key]
    page: Annotated[str, Key]
    views: Annotated[int, Sum] = 0
    title: str | None = None


class Through(Entity, table="throughs", strategy=WriteBehind(flush_delay_s=0.05, on_broker_down="through")):
    """Written to the database when the broker is down."""

    id: Annotated[int, Key]
    name: str | None = None
    count: Annotated[int, Sum] = 0


ENTITIES: tuple[type[Entity], ...] = (Player, Visit, Through)
DDL = """
CREATE TABLE players (
    id bigint PRIMARY KEY, name text, score bigint NOT NULL DEFAULT 0, small smallint NOT NULL DEFAULT 0,
    balance numeric(12,2) NOT NULL DEFAULT 0, best bigint, first timestamptz, versions bigint[]
);
CREATE TABLE visits (
    site text, page text, views bigint NOT NULL DEFAULT 0, title text, versions bigint[], PRIMARY KEY (site, page)
);
CREATE TABLE throughs (id bigint PRIMARY KEY, name text, count bigint NOT NULL DEFAULT 0, versions bigint[])
"""


@dataclass(frozen=True)
class World:
    """A corner of running servers, with everything created.

    `settings` are a service's, which is a producer; `groups` are those of them that the test has chosen.
    """

    settings: Settings
    corner: Corner
    groups: Mapping[str, Mapping[str, Any]]

    def env_of(self, role: str, **env: str) -> dict[str, str]:
        """A role's settings; `env` overrides them."""
        return {**self.corner.env_of(role), **env}

    def settings_of(self, role: str) -> Settings:
        """A role's settings, for a part that runs in this process."""
        return settings_of(self.corner.env_of(role), **self.groups)

    def execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.corner.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def give(self, role: str, *entities: type[Entity]) -> None:
        """Give a role its rights for these entities, whose tables and topics were not there before."""
        self.corner.give(Registry(entities), {}, role)

    def topic(self, cls: type[Entity]) -> str:
        return naming.topic(self.settings.kafka.topic_prefix, declaration_of(cls).name)

    def records(self, cls: type[Entity]) -> list[tuple[str, Row]]:
        """Every record on the entity's topic, as key text and decoded row."""
        codec, topic = Codec(declaration_of(cls)), self.topic(cls)
        consumer = Consumer(
            {
                "bootstrap.servers": self.corner.bootstrap_servers,
                "group.id": "look",
                "enable.partition.eof": True,
            }
        )
        numbers = list(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, number, 0) for number in numbers])
        found: list[tuple[str, Row]] = []
        ends = 0
        while ends < len(numbers):
            message = consumer.poll(30)
            assert message is not None
            if message.error() is not None:
                ends += 1
            else:
                found.append(((message.key() or b"").decode(), codec.decode([message.value()])[0]))
        consumer.close()
        return found

    def entry(self, cls: type[Entity], key_text: str) -> dict[str, str]:
        """The cache entry as it is."""
        with redis.Redis.from_url(self.corner.cache_url, decode_responses=True) as client:
            key = naming.cache_key(self.settings.cache.prefix, declaration_of(cls).name, key_text)
            return {str(name): str(value) for name, value in client.hgetall(key).items()}

    def left_ms(self, cls: type[Entity], key_text: str) -> int:
        """How long the entry still lives."""
        with redis.Redis.from_url(self.corner.cache_url) as client:
            return int(client.pttl(naming.cache_key(self.settings.cache.prefix, declaration_of(cls).name, key_text)))

    def calls(self) -> int:
        """Scripts run by the cache so far."""
        with redis.Redis.from_url(self.corner.cache_url) as client:
            stats = client.info("commandstats")
            return sum(int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("evalsha", "eval"))


@contextmanager
def world(
    isolation: Isolation, entities: Sequence[type[Entity]] = ENTITIES, *, ddl: str = DDL, **settings: dict[str, Any]
) -> Iterator[World]:
    """Create tables, bookkeeping and topics, and give each role its rights.

    `settings` are per group, such as producer={"timeout_s": 1}.
    """
    assert isinstance(isolation, Corner)
    groups: dict[str, dict[str, Any]] = {
        "kafka": {"partitions": 2},
        "cache": {"timeout_s": 2.0, "connect_timeout_s": 2.0},  # a busy machine is not a cache that is down
    }
    for group, values in settings.items():
        groups[group] = {**groups.get(group, {}), **values}
    registry = Registry(entities)
    made = World(settings_of(isolation.env_of("producer"), **groups), isolation, groups)
    for statement in ddl.split(";"):
        made.execute(statement)
    isolation.give(registry, {}, "migrator")
    assert migrate(made.settings_of("migrator"), registry).problems == []
    isolation.give(registry, {}, "producer", "flusher", "auditor")
    yield made

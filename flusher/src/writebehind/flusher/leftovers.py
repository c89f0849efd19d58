"""Entities that were written behind and are not any more: nobody consumes their topics, where records may be left."""

from __future__ import annotations

from typing import Any

import psycopg
from confluent_kafka import Consumer, KafkaException
from psycopg import sql

from writebehind.producer import topic_logs
from writebehind.shared import naming
from writebehind.shared.declaration import Declaration
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings

from . import servers

ANSWER_S = 5.0  # longest answer of the broker


def leftovers(settings: Settings, registry: Registry, connection: psycopg.Connection[Any]) -> list[str]:
    """What would never be flushed, and what to do about it. Nothing while the broker does not tell."""
    if not registry.direct:
        return []
    broker = servers.Broker(settings)
    try:
        with broker.told():
            # Never joined: only asked for offsets.
            consumer = Consumer({**broker.client_config(), "group.id": "writebehind-preflight"})
    except ConfigurationError:
        return []  # options that librdkafka does not take are told elsewhere
    try:
        left = [(one, _unflushed(settings, connection, consumer, one)) for one in registry.direct]
    except KafkaException:
        return []  # it is down, or this user may not see topics that were never ours
    finally:
        consumer.close()
    return [_problem(settings, declaration, count) for declaration, count in left if count]


def _unflushed(
    settings: Settings, connection: psycopg.Connection[Any], consumer: Consumer, declaration: Declaration
) -> int:
    topic = naming.topic(settings.kafka.topic_prefix, declaration.name)
    query = sql.SQL("SELECT partition, next_offset FROM {} WHERE topic = %s")
    table = sql.Identifier(settings.database.schema_, "progress")
    flushed = dict(connection.execute(query.format(table), (topic,)).fetchall())
    logs = topic_logs.logs(consumer, topic, ANSWER_S)
    return sum(max(0, end - max(start, flushed.get(partition, 0))) for partition, (start, end) in logs.items())


def _problem(settings: Settings, declaration: Declaration, count: int) -> str:
    topic, strategy = naming.topic(settings.kafka.topic_prefix, declaration.name), type(declaration.strategy).__name__
    return (
        f"{declaration.cls.__name__} is declared {strategy}, and {topic} still holds {count} records that are in no "
        "row: it was written behind before, and nobody would flush them. To mend it: let a flusher that has the "
        "declaration from before run until `writebehind status` shows no lag; or delete the topic, which gives them up"
    )

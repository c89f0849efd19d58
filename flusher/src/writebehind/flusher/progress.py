"""`writebehind progress`: what Postgres and the broker say of each partition, and moving one's progress by hand.

Moving raises the partition's epoch in the same transaction: a flusher that owns it is fenced, and claims it again. The
row's owner says who moved it, and `claimed_at` when; the flusher that takes it on logs both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from psycopg import sql

from writebehind.producer import topic_logs
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.settings import Settings

from . import servers, watchdog
from .gap import BY_HAND, Log, Progress
from .move import Move, Standing, plan
from .topic_ids import topic_id
from .who import person

ANSWER_S = 10.0  # longest answer of the broker


class Ledger:
    """The progress rows and the broker's logs, read together."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._table = sql.Identifier(settings.database.schema_, "progress")
        self._broker = servers.Broker(settings)
        with self._broker.told():
            self._admin = AdminClient(self._broker.client_config())
            # Never joined: only asked for offsets.
            self._consumer = Consumer({**self._broker.client_config(), "group.id": "writebehind-progress"})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def standings(self) -> list[Standing]:
        """Every partition that was ever claimed. Raises ConfigurationError when a server does not answer."""
        with self._database() as connection:
            rows = self._rows(connection, sql.SQL("ORDER BY topic, partition"))
        ids = self._topic_ids({topic for topic, _ in rows})
        return [Standing(*place, stored, self._log(place, ids)) for place, stored in rows.items()]

    def topic(self, topic: str) -> list[Standing]:
        """Every partition that the topic has or had, in order. Empty when there never was such a topic."""
        with self._database() as connection:
            rows = self._rows(connection, sql.SQL("WHERE topic = {}").format(topic))
        ids = self._topic_ids({topic})
        with self._broker.told(poll=self._consumer.poll):
            known = topic_logs.partitions(self._consumer, topic, ANSWER_S) if ids else []
        numbers = sorted({number for _, number in rows} | set(known))
        return [Standing(topic, n, rows.get((topic, n)), self._log((topic, n), ids)) for n in numbers]

    def standing(self, topic: str, partition: int) -> Standing:
        """One partition."""
        with self._database() as connection:
            stored = self._stored(connection, topic, partition)
        return Standing(topic, partition, stored, self._log((topic, partition), self._topic_ids({topic})))

    def move(self, move: Move, *, repeat: bool) -> str:
        """Carry out a move if it still does what was agreed to, and give who did it. Raises ConfigurationError."""
        who = person()
        place = (move.topic, move.partition)
        # Asked before the row is locked, which makes a flusher wait.
        broker = self._log(place, self._topic_ids({move.topic}))
        with self._database() as connection:
            stored = self._stored(connection, *place, lock=sql.SQL("FOR UPDATE"))
            now = plan(Standing(*place, stored, broker), str(move.offset))
            if now.topic_id != move.topic_id or now.skipped > move.skipped or (now.repeated > move.repeated):
                raise ConfigurationError(f"{move.topic}[{move.partition}]: it has moved meanwhile; look again")
            now.check(repeat=repeat)
            connection.execute(
                sql.SQL(
                    "INSERT INTO {} AS p (topic, partition, topic_id, next_offset, owner_epoch, owner, claimed_at) "
                    "VALUES (%s, %s, %s, %s, 1, %s, now()) ON CONFLICT (topic, partition) DO UPDATE SET "
                    "topic_id = excluded.topic_id, next_offset = excluded.next_offset, owner = excluded.owner, "
                    "claimed_at = now(), owner_epoch = p.owner_epoch + 1, settled_offset = NULL"
                ).format(self._table),
                (*place, now.topic_id, now.offset, BY_HAND + who),
            )
        return who

    @contextmanager
    def _database(self) -> Iterator[psycopg.Connection[Any]]:
        settings = self._settings.database
        limit_s = settings.statement_timeout_s + settings.stall_timeout_s  # the server lets none of ours run so long
        with servers.database(settings, "writebehind-progress") as connection, watchdog.guard(connection, limit_s):
            yield connection

    def _stored(
        self, connection: psycopg.Connection[Any], topic: str, partition: int, lock: sql.SQL | None = None
    ) -> Progress | None:
        where = sql.SQL("WHERE topic = {} AND partition = {} {}").format(topic, partition, lock or sql.SQL(""))
        return self._rows(connection, where).get((topic, partition))

    def _rows(
        self, connection: psycopg.Connection[Any], rest: sql.SQL | sql.Composed
    ) -> dict[tuple[str, int], Progress]:
        query = sql.SQL("SELECT topic, partition, topic_id, next_offset, owner_epoch, owner FROM {} {}")
        rows = connection.execute(query.format(self._table, rest)).fetchall()
        return {(topic, partition): Progress(*stored) for topic, partition, *stored in rows}

    def _topic_ids(self, topics: Collection[str]) -> dict[str, str]:
        """The broker's ids of those topics that exist."""
        if not topics:
            return {}
        described = self._admin.describe_topics(TopicCollection(list(topics)), request_timeout=ANSWER_S)
        found: dict[str, str] = {}
        for topic, future in described.items():
            with self._broker.told(poll=self._admin.poll):
                try:
                    found[topic] = topic_id(future.result(2 * ANSWER_S))
                except KafkaException as error:
                    if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                        raise
        return found

    def _log(self, place: tuple[str, int], ids: Mapping[str, str]) -> Log | None:
        topic, partition = place
        if topic not in ids:
            return None
        with self._broker.told(poll=self._consumer.poll):
            try:
                start, end = topic_logs.watermarks(self._consumer, topic, partition, ANSWER_S)
            except KafkaException as error:
                if error.args[0].code() not in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION):
                    raise
                return None
        return Log(ids[topic], start, end)

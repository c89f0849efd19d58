"""Owning partitions: the progress rows in Postgres say who may flush a partition and from which offset.

A claim raises the row's epoch; a flush must find the epoch it was claimed with. That stops a zombie (a flusher that was
suspended, and does not know that its partitions moved) without Kafka transactions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Any

import psycopg
from confluent_kafka import Consumer, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from psycopg import sql

from . import watchdog
from .database import connect
from .gap import Log, Progress, gap
from .topic_ids import topic_id as id_of

Place = tuple[str, int]  # topic, partition


class ClaimFailed(Exception):
    """Neither claimed nor refused: a server did not answer. Try again."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A partition is ours: flush from `next_offset` on, under `epoch`. The cache may not know what is between
    `settled_offset` and there.
    """

    topic: str
    partition: int
    epoch: int
    next_offset: int
    settled_offset: int
    topic_id: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A partition that must not be flushed as things stand; `reason` says what is wrong and what resolves it."""

    topic: str
    partition: int
    reason: str
    epoch: int  # of the progress row as it was read; who resolves the matter raises it


class Claims:
    """Claims partitions. Used by the loop's thread only, but for `standing`, which works in one of its own."""

    def __init__(self, url: str, bookkeeping: str, admin: AdminClient, owner: str, *, stall_timeout_s: float) -> None:
        self._url = url
        self._stall_timeout_s = stall_timeout_s
        self._admin = admin
        self._owner = owner
        table = sql.Identifier(bookkeeping, "progress")
        self._read = sql.SQL(
            "SELECT topic, partition, topic_id, next_offset, owner_epoch, owner FROM {} AS p "
            "JOIN unnest(%s::text[], %s::int[]) AS s(t, n) ON p.topic = s.t AND p.partition = s.n"
        ).format(table)
        self._claim = sql.SQL(
            "INSERT INTO {} AS p (topic, partition, topic_id, next_offset, owner_epoch, owner, claimed_at) "
            "SELECT t, n, i, o, 1, %s, now() FROM unnest(%s::text[], %s::int[], %s::text[], "
            "%s::int8[]) AS s(t, n, i, o) ORDER BY t, n "
            "ON CONFLICT (topic, partition) DO UPDATE SET owner_epoch = p.owner_epoch + 1, owner = "
            "excluded.owner, claimed_at = now() "
            "RETURNING topic, partition, owner_epoch, next_offset, "
            "LEAST(settled_offset, next_offset), topic_id"  # NULL counts as next_offset
        ).format(table)
        self._connection: psycopg.Connection[Any] | None = None
        self._in_use = Lock()

    def claim(self, consumer: Consumer, places: Sequence[Place]) -> list[Claim | Refusal]:
        """Claim partitions, waiting for a flush that holds one of them to finish. Raises ClaimFailed."""
        if not places:
            return []
        try:
            # In this order: the owner before us may still commit what came to the log since we looked at its end,
            # which would then seem to have lost its tail.
            known = self._progress(places)
            logs = self._logs(consumer, places)
            refused = {
                place: found for place in places if place in known and (found := gap(place, known[place], logs[place]))
            }
            taken = self._take([place for place in places if place not in refused], logs)
        except psycopg.Error as error:
            raise ClaimFailed(f"the database did not answer ({error.sqlstate or type(error).__name__})") from error
        except (KafkaException, OSError) as error:
            raise ClaimFailed(f"the broker did not answer ({type(error).__name__})") from error
        return [*taken, *(Refusal(*place, str(found), known[place].epoch) for place, found in refused.items())]

    def standing(self, places: Sequence[Place]) -> Future[dict[Place, Progress]]:
        """Ask for the progress rows of partitions, without waiting: the loop does not wait for the database."""
        future: Future[dict[Place, Progress]] = Future()

        def ask() -> None:
            try:
                future.set_result(self._progress(places))
            except Exception as error:  # noqa: BLE001  # raised to who asks for the result
                future.set_exception(error)

        Thread(target=ask, name="progress", daemon=True).start()
        return future

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def describe(self, topics: Sequence[str]) -> dict[str, Future[Any]]:
        """Ask the broker to describe topics; the answers hold their ids."""
        futures: dict[str, Future[Any]] = self._admin.describe_topics(TopicCollection(list(topics)), request_timeout=5)
        return futures

    def still(self, topic: str, topic_id: str) -> Callable[[], bool]:
        """Ask whether a topic is still the one with this id. The answer is waited for when it is called for.

        It speaks of now, so it holds for whatever was consumed before. Called again, it asks again. It raises
        KafkaException when the broker does not say.
        """
        asked = [self.describe([topic])[topic]]

        def answer() -> bool:
            future = asked.pop() if asked else self.describe([topic])[topic]
            return id_of(future.result()) == topic_id

        return answer

    def _logs(self, consumer: Consumer, places: Sequence[Place]) -> dict[Place, Log]:
        described = self.describe(sorted({topic for topic, _ in places}))
        ids = {topic: id_of(future.result()) for topic, future in described.items()}
        logs: dict[Place, Log] = {}
        # Not the admin client's list_offsets(), although it asks for all at once: after its time-out it answers with
        # offset -1001 and no error, which would look like a log that lost its tail.
        for place in places:
            start, end = consumer.get_watermark_offsets(TopicPartition(*place), timeout=5)
            logs[place] = Log(ids[place[0]], start, end)
        return logs

    def _progress(self, places: Sequence[Place]) -> dict[Place, Progress]:
        topics, partitions = zip(*places, strict=True)
        rows = self._rows(self._read, list(topics), list(partitions))
        return {(topic, partition): Progress(*rest) for topic, partition, *rest in rows}

    def _take(self, places: Sequence[Place], logs: Mapping[Place, Log]) -> list[Claim]:
        if not places:
            return []
        columns = [
            [topic for topic, _ in places],
            [partition for _, partition in places],
            [logs[place].topic_id for place in places],
            [logs[place].start for place in places],
        ]
        return [
            # What expired meanwhile cannot be read again; entries it leaves pending are for the audit.
            Claim(topic, n, epoch, next_, max(settled, logs[topic, n].start), topic_id)
            for topic, n, epoch, next_, settled, topic_id in self._rows(self._claim, self._owner, *columns)
        ]

    def _rows(self, query: sql.Composed, *parameters: object) -> list[tuple[Any, ...]]:
        with self._in_use:
            connection = self._connected()
            try:
                with watchdog.guard(connection, self._stall_timeout_s):
                    return connection.execute(query, parameters).fetchall()
            except psycopg.Error:
                self.close()
                raise

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = connect(
                self._url, name="writebehind-flusher claims", statement_timeout_s=15, lock_timeout_s=12
            )
        return self._connection

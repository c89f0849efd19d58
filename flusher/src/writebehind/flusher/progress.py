"""`writebehind progress`: what Postgres and the broker say of each partition, and moving a partition's progress by hand.

Moving raises the partition's epoch in the same transaction: a flusher that owns it is fenced, and claims it again.
"""

from __future__ import annotations

import getpass
import logging
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from psycopg import sql

from writebehind.shared.errors import ConfigurationError
from writebehind.shared.settings import Settings

from . import servers
from .gap import BY_HAND, Gap, Log, Progress, gap

log = logging.getLogger("writebehind.flusher")

ANSWER_S = 10.0  # longest answer of the broker


@dataclass(frozen=True, slots=True)
class Standing:
    """A partition as both sides see it. `log` None: the broker does not have it; `stored` None: nobody claimed it."""

    topic: str
    partition: int
    stored: Progress | None
    log: Log | None

    @property
    def gap(self) -> Gap | None:
        """What stops it."""
        return gap((self.topic, self.partition), self.stored, self.log) if self.stored and self.log else None

    def as_json(self) -> dict[str, Any]:
        """The stable JSON form."""
        stored = (
            None
            if self.stored is None
            else {"topic_id": self.stored.topic_id, "next_offset": self.stored.next_offset, "owner": self.stored.owner}
        )
        found = self.gap
        stopped = None if found is None else {**_fields(found), "command": found.command}
        broker = None if self.log is None else asdict(self.log)
        return {"topic": self.topic, "partition": self.partition, "stored": stored, "broker": broker, "gap": stopped}


def _fields(found: Gap) -> dict[str, Any]:
    return {"reason": found.reason, "records": found.records}


@dataclass(frozen=True, slots=True)
class Move:
    """What moving a partition's progress does. `skipped`: records the broker has and nobody will flush; `repeated`:
    records that were flushed and will be again; `lost`: records the broker lost before, None when nobody can know.
    """

    topic: str
    partition: int
    topic_id: str
    before: int | None
    offset: int
    skipped: int
    repeated: int
    lost: int | None

    def lines(self) -> Iterable[str]:
        """What somebody must know before agreeing."""
        before = "nobody has claimed it" if self.before is None else f"it stands at offset {self.before}"
        yield f"{self.topic}[{self.partition}]: {before}, and will go on at offset {self.offset}"
        if self.lost != 0:
            yield f"  lost: {'unknown, with the old topic' if self.lost is None else f'{self.lost:,} records'}"
        yield f"  skipped: {self.skipped:,} records"
        yield f"  repeated: {self.repeated:,} records"


def plan(standing: Standing, wanted: str) -> Move:
    """What going on at `wanted` (a number, `earliest` or `latest`) does. Pure. Raises ConfigurationError."""
    topic, partition, stored, broker = standing.topic, standing.partition, standing.stored, standing.log
    name = f"{topic}[{partition}]"
    if broker is None:
        raise ConfigurationError(f"{name}: the broker has no such partition")
    named = {"earliest": broker.start, "latest": broker.end}
    if wanted not in named and not wanted.isdecimal():
        raise ConfigurationError(f"--offset {wanted}: give a number, earliest or latest")
    offset = named.get(wanted) if wanted in named else int(wanted)
    if offset is None or not broker.start <= offset <= broker.end:
        raise ConfigurationError(f"{name}: offset {offset} is outside the log, {broker.start} to {broker.end}")
    move = Move(topic, partition, broker.topic_id, stored and stored.next_offset, offset, 0, 0, 0)
    if stored is None or stored.topic_id != broker.topic_id:
        # Nothing of this topic was ever flushed.
        return _with(move, skipped=offset - broker.start, lost=None if stored else 0)
    found = standing.gap
    flushed = min(max(stored.next_offset, broker.start), broker.end)  # as far as the log goes
    return _with(
        move,
        skipped=max(0, offset - flushed),
        repeated=max(0, flushed - offset),
        lost=found.records if found else 0,
    )


def _with(move: Move, **changes: int | None) -> Move:
    return Move(**{**asdict(move), **changes})


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

    def standing(self, topic: str, partition: int) -> Standing:
        """One partition."""
        with self._database() as connection:
            stored = self._stored(connection, topic, partition)
        return Standing(topic, partition, stored, self._log((topic, partition), self._topic_ids({topic})))

    def move(self, move: Move, *, repeat: bool) -> Move:
        """Carry out a move, if it still does what was agreed to. Raises ConfigurationError."""
        place = (move.topic, move.partition)
        # Asked before the row is locked, which makes a flusher wait.
        broker = self._log(place, self._topic_ids({move.topic}))
        with self._database() as connection:
            stored = self._stored(connection, *place, lock=sql.SQL("FOR UPDATE"))
            now = plan(Standing(*place, stored, broker), str(move.offset))
            if now.topic_id != move.topic_id or now.skipped > move.skipped or (now.repeated > move.repeated):
                raise ConfigurationError(f"{move.topic}[{move.partition}]: it has moved meanwhile; look again")
            if now.repeated and not repeat:
                raise ConfigurationError(
                    f"{move.topic}[{move.partition}]: {now.repeated:,} records would be flushed a second time, and "
                    "their increments counted twice; give --repeat if that is what you want"
                )
            connection.execute(
                sql.SQL(
                    "INSERT INTO {} AS p (topic, partition, topic_id, next_offset, owner_epoch, owner, claimed_at) "
                    "VALUES (%s, %s, %s, %s, 1, %s, now()) ON CONFLICT (topic, partition) DO UPDATE SET "
                    "topic_id = excluded.topic_id, next_offset = excluded.next_offset, owner = excluded.owner, "
                    "claimed_at = now(), owner_epoch = p.owner_epoch + 1"
                ).format(self._table),
                (*place, now.topic_id, now.offset, BY_HAND + _who()),
            )
        return now

"""`writebehind status`: how far the flusher is, per topic and partition. Reads only; joins no group."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from psycopg import sql
from rich.table import Table

from writebehind.producer import topic_logs
from writebehind.shared import naming
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings

from . import servers

ASK_S = 5.0  # longest answer of the broker
GROUP = "writebehind-status"  # never joined: partitions are assigned by hand
OLDEST_S = 2.0  # longest wait for the oldest unflushed record of a partition


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One partition. Offsets are the next ones; `flushed` None: no flusher has claimed it yet; times in seconds."""

    topic: str
    partition: int
    start: int  # the first record that is still there
    end: int
    flushed: int | None
    lag_records: int  # records that still have to be flushed, including any that expired before they were
    lag_s: float | None  # age of the oldest record that is not flushed; None when there is none
    oldest_pending: str | None  # when that record was written, RFC 3339
    rate_per_s: float | None  # records flushed per second since the sample before; None in a first sample
    owner: str | None
    claimed_at: str | None  # since when the owner has it, RFC 3339
    claimed_s: float | None  # the same as an age, by the database's clock
    flushed_at: str | None


@dataclass(frozen=True, slots=True)
class Status:
    """A sample: partitions, topics that do not exist, and when it was taken."""

    partitions: list[PartitionStatus]
    missing_topics: list[str]
    at: dt.datetime

    def as_json(self) -> dict[str, Any]:
        """The stable JSON form."""
        return {
            "at": self.at.isoformat(),
            "lag_records": sum(p.lag_records for p in self.partitions),
            "missing_topics": self.missing_topics,
            "partitions": [dataclasses.asdict(p) for p in self.partitions],
        }


class Sampler:
    """Takes samples; rates come from the sample before.

    group: one that we may ask for; it is not joined. oldest_s: longest wait for a partition's oldest unflushed record.
    """

    def __init__(
        self, settings: Settings, registry: Registry, *, group: str = GROUP, oldest_s: float = OLDEST_S
    ) -> None:
        self._oldest_s = oldest_s
        self._settings = settings
        self._topics = [
            naming.topic(settings.kafka.topic_prefix, declaration.name) for declaration in registry.write_behind
        ]
        self._broker = servers.Broker(settings)
        with self._broker.told():
            self._consumer = Consumer(
                {
                    **self._broker.client_config(),
                    "group.id": group,
                    "enable.auto.commit": False,
                    "auto.offset.reset": "error",
                }
            )
        self._before: Status | None = None

    def sample(self) -> Status:
        """Ask broker and database. Raises ConfigurationError when one of them does not answer."""
        # Progress first: a partition then never seems to be flushed beyond its log's end.
        now = dt.datetime.now(dt.UTC)
        progress = self._progress()
        found: list[PartitionStatus] = []
        missing: list[str] = []
        for topic in self._topics:
            logs = self._logs(topic)
            if not logs:
                missing.append(topic)
            for partition, log in sorted(logs.items()):
                found.append(self._partition(topic, partition, log, progress, now))
        self._before = Status(found, missing, now)
        return self._before

    def close(self) -> None:
        self._consumer.close()

    def _partition(
        self,
        topic: str,
        number: int,
        log: tuple[int, int],
        progress: Mapping[tuple[str, int], Sequence[Any]],
        now: dt.datetime,
    ) -> PartitionStatus:
        start, end = log
        flushed, owner, claimed_at, claimed_s, flushed_at = progress.get((topic, number), (None,) * 5)
        # Where nobody has flushed yet, a flusher will begin at the log's start, which retention may have moved.
        lag = max(0, end - (start if flushed is None else flushed))
        oldest = self._written_at(topic, number, max(start, flushed or 0)) if lag and start < end else None
        return PartitionStatus(
            topic,
            number,
            start,
            end,
            flushed,
            lag,
            None if oldest is None else round(max(0.0, (now - oldest).total_seconds()), 3),
            _rfc3339(oldest),
            self._rate(topic, number, flushed, now),
            owner,
            _rfc3339(claimed_at),
            None if claimed_s is None else round(max(0.0, claimed_s), 3),
            _rfc3339(flushed_at),
        )

    def _rate(self, topic: str, number: int, flushed: int | None, now: dt.datetime) -> float | None:
        if self._before is None or flushed is None:
            return None
        for before in self._before.partitions:
            if (before.topic, before.partition) == (topic, number) and before.flushed is not None:
                return round((flushed - before.flushed) / (now - self._before.at).total_seconds(), 1)
        return None

    def _progress(self) -> dict[tuple[str, int], Sequence[Any]]:
        query = sql.SQL(
            "SELECT topic, partition, next_offset, owner, claimed_at, "
            "extract(epoch FROM now() - claimed_at)::float8, flushed_at FROM {} WHERE topic = ANY(%s)"
        ).format(sql.Identifier(self._settings.database.schema_, "progress"))
        with servers.database(self._settings.database, "writebehind-status") as connection:
            rows = connection.execute(query, (self._topics,)).fetchall()
        return {(row[0], row[1]): row[2:] for row in rows}

    def _logs(self, topic: str) -> dict[int, tuple[int, int]]:
        """The first offset and the next one, by partition; empty when the topic does not exist."""
        with self._broker.told(poll=self._consumer.poll):
            return topic_logs.logs(self._consumer, topic, ASK_S)

    def _written_at(self, topic: str, number: int, offset: int) -> dt.datetime | None:
        """When the record at `offset` was written; None when it cannot be read in time, or expired just now."""
        self._consumer.assign([TopicPartition(topic, number, offset)])
        message = self._consumer.poll(self._oldest_s)
        self._consumer.unassign()
        if message is None or message.error() is not None:
            return None
        return dt.datetime.fromtimestamp(message.timestamp()[1] / 1000, dt.UTC)


def _rfc3339(at: dt.datetime | None) -> str | None:
    return None if at is None else at.astimezone(dt.UTC).isoformat()


def render(status: Status) -> Table:
    """The sample as a table."""
    table = Table(title=f"{status.at:%H:%M:%S} UTC", title_justify="left")
    for name in ("topic", "partition", "end", "flushed", "lag", "lag s", "rate/s", "owner", "for s", "flushed at"):
        table.add_column(name, justify="left" if name in ("topic", "owner", "flushed at") else "right")
    for p in status.partitions:
        table.add_row(
            p.topic,
            str(p.partition),
            f"{p.end:,}",
            "–" if p.flushed is None else f"{p.flushed:,}",
            f"{p.lag_records:,}",
            "–" if p.lag_s is None else f"{p.lag_s:,.1f}",
            "–" if p.rate_per_s is None else f"{p.rate_per_s:,.0f}",
            p.owner or "nobody yet",
            "–" if p.claimed_s is None else f"{p.claimed_s:,.0f}",
            (p.flushed_at or "–")[:19],
        )
    return table

"""Collecting records into batches. Pure: the time is passed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Message
from opentelemetry.trace import Link

from writebehind.shared.fold import Folded
from writebehind.shared.letter import Cause
from writebehind.shared.record import VERSION, Row

from .letterbox import Draft
from .packed import Packed
from .triage import Streak

Settled = Mapping[int, tuple[int, int]]  # by partition, the epoch and the offset up to which the cache knows


@dataclass(slots=True)
class Span:
    """The records of one partition in a batch: from `expected`, the offset Postgres must be at, up to but
    without `next`.
    """

    partition: int
    epoch: int
    expected: int
    next: int
    written_at: float = 0.0  # when the broker took the first of them, in seconds since 1970; 0 when it does not say


@dataclass(slots=True)
class Batch:
    """Decoded records of one topic, in order per partition.

    `runs` says which partition each stretch of `rows` came from.
    """

    topic: str
    rows: list[Row] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)  # what each row was decoded from: a letter needs it whole
    runs: list[tuple[int, int]] = field(default_factory=list)  # partition, number of records
    spans: dict[int, Span] = field(default_factory=dict)
    keys: set[Any] = field(default_factory=set)
    size_bytes: int = 0
    started_at: float = 0.0
    topic_id: str = ""
    letters: list[Draft] = field(default_factory=list)  # records that this batch skips
    posted: int = 0  # how many of `letters` the broker has
    refused: list[Row] = field(default_factory=list)  # the decoded ones among them
    streak: Streak = field(default_factory=Streak)
    attempts: int = 0  # how often it was refused, and since when
    first_failed_at: str = ""
    folded: Folded | None = None  # None until folded; entities with deletes are folded inside the transaction
    packed: list[Packed] | None = None  # the folded rows, ready to send
    links: Sequence[Link] = ()  # to the spans that its records were written in
    same_topic: Callable[[], bool] | None = None  # whether the records are of the topic that was claimed

    def refuse(self, causes: Mapping[int, Cause]) -> None:
        """Make letters of rows, by their index; the rest has to be folded again."""
        for index, cause in sorted(causes.items()):
            self.letters.append(Draft(self.messages[index], self.rows[index][VERSION], cause))
            self.refused.append(self.rows[index])
        kept = [index for index in range(len(self.rows)) if index not in causes]
        self.rows = [self.rows[index] for index in kept]
        self.messages = [self.messages[index] for index in kept]
        self.folded = self.packed = None


@dataclass(frozen=True, slots=True)
class Limits:
    """When a batch is full: distinct keys (rows of the statement), records, bytes; or when its first record is
    too old.
    """

    rows_max: int
    records_max: int
    bytes_max: int
    age_max_s: float

    def of_each(self, lanes: int) -> Limits:
        """Those of each of an entity's lanes. More than two share what two may hold.

        Batches are most of a flusher's memory, and Postgres gains nothing from large ones once it has several at a
        time: random updates on four connections ran at the same rate with 5,000 as with 40,000 rows a statement.
        """

        def share(limit: int) -> int:
            return max(1, 2 * limit // max(2, lanes))

        rows, records, size = share(self.rows_max), share(self.records_max), share(self.bytes_max)
        return Limits(rows, records, size, self.age_max_s)


class Buffer:
    """The batch that one lane is filling. `key_of` gives a row's key, hashable."""

    def __init__(self, topic: str, limits: Limits, key_of: Callable[[Row], Any]) -> None:
        self._topic = topic
        self._limits = limits
        self._key_of = key_of
        self._batch = Batch(topic)

    def add(
        self,
        span: Span,
        rows: Sequence[Row],
        messages: Sequence[Message],
        size_bytes: int,
        now: float,
        letters: Sequence[Draft] = (),
    ) -> None:
        """Append consecutive records of one partition; `span` continues where that partition's last one ended.

        `messages` are those of `rows`; `letters` are the records of the span that could not be read.
        """
        batch = self._batch
        if not batch.spans:
            batch.started_at = now
        batch.rows += rows
        batch.messages += messages
        batch.letters += letters
        batch.runs.append((span.partition, len(rows)))
        batch.keys.update(map(self._key_of, rows))
        batch.size_bytes += size_bytes
        known = batch.spans.get(span.partition)
        if known is None:
            batch.spans[span.partition] = span
        else:
            known.next = span.next

    def spans(self) -> list[Span]:
        """What is being collected, for other threads to look at."""
        return list(self._batch.spans.copy().values())

    @property
    def full(self) -> bool:
        batch, limits = self._batch, self._limits
        return (
            len(batch.keys) >= limits.rows_max
            or len(batch.rows) >= limits.records_max
            or batch.size_bytes >= limits.bytes_max
        )

    def due_in(self, now: float) -> float | None:
        """Seconds until the batch must go, 0 when it must go now, None when there is nothing to send."""
        if not self._batch.spans:
            return None
        return 0.0 if self.full else max(0.0, self._batch.started_at + self._limits.age_max_s - now)

    def take(self) -> Batch:
        """Hand the batch over and start a new one."""
        batch, self._batch = self._batch, Batch(self._topic)
        return batch

    def drop(self, partitions: set[int]) -> None:
        """Forget the records of partitions that are not ours any more."""
        batch = self._batch
        if not partitions & batch.spans.keys():
            return
        self._batch = Batch(self._topic, started_at=batch.started_at, size_bytes=batch.size_bytes)
        start = 0
        for partition, count in batch.runs:
            if partition not in partitions:
                span, end = batch.spans[partition], start + count
                self.add(span, batch.rows[start:end], batch.messages[start:end], 0, batch.started_at)
            start += count
        self._batch.letters = [draft for draft in batch.letters if draft.place[0] not in partitions]
        if not self._batch.spans:
            self._batch = Batch(self._topic)  # with the size of what is gone it would count as full

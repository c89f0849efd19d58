"""Collecting records into batches. Pure: the time is passed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from writebehind.shared.fold import Folded
from writebehind.shared.record import Row

from .packed import Packed


@dataclass(slots=True)
class Span:
    """The records of one partition in a batch: from `expected`, the offset Postgres must be at, up to but
    without `next`.
    """

    partition: int
    epoch: int
    expected: int
    next: int


@dataclass(slots=True)
class Batch:
    """Decoded records of one topic, in order per partition.

    `runs` says which partition each stretch of `rows` came from.
    """

    topic: str
    rows: list[Row] = field(default_factory=list)
    runs: list[tuple[int, int]] = field(default_factory=list)  # partition, number of records
    spans: dict[int, Span] = field(default_factory=dict)
    keys: set[Any] = field(default_factory=set)
    size_bytes: int = 0
    started_at: float = 0.0
    folded: Folded | None = None  # None until folded; entities with deletes are folded inside the transaction
    packed: list[Packed] | None = None  # the folded rows, ready to send
    same_topic: Callable[[], bool] | None = None  # whether the records are of the topic that was claimed

    def by_partition(self) -> list[Batch]:
        """The same records as one batch per partition, not folded yet."""
        parts = {n: Batch(self.topic, spans={n: span}, same_topic=self.same_topic) for n, span in self.spans.items()}
        start = 0
        for number, count in self.runs:
            parts[number].rows += self.rows[start : start + count]
            parts[number].runs.append((number, count))
            start += count
        return list(parts.values())


@dataclass(frozen=True, slots=True)
class Limits:
    """When a batch is full: distinct keys (rows of the statement), records, bytes; or when its first record is
    too old.
    """

    rows_max: int
    records_max: int
    bytes_max: int
    age_max_s: float


class Buffer:
    """The batch that one lane is filling. `key_of` gives a row's key, hashable."""

    def __init__(self, topic: str, limits: Limits, key_of: Callable[[Row], Any]) -> None:
        self._topic = topic
        self._limits = limits
        self._key_of = key_of
        self._batch = Batch(topic)

    def add(self, span: Span, rows: Sequence[Row], size_bytes: int, now: float) -> None:
        """Append consecutive records of one partition; `span` continues where that partition's last one ended."""
        batch = self._batch
        if not batch.rows:
            batch.started_at = now
        batch.rows += rows
        batch.runs.append((span.partition, len(rows)))
        batch.keys.update(map(self._key_of, rows))
        batch.size_bytes += size_bytes
        known = batch.spans.get(span.partition)
        if known is None:
            batch.spans[span.partition] = span
        else:
            known.next = span.next

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
        if not self._batch.rows:
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
                span = batch.spans[partition]
                self.add(span, batch.rows[start : start + count], 0, batch.started_at)
            start += count
        if not self._batch.rows:
            self._batch = Batch(self._topic)  # with the size of what is gone it would count as full

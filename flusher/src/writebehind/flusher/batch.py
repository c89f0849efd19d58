"""Collecting records into batches. Pure: the time is passed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from writebehind.shared.fold import Folded
from writebehind.shared.record import Row


@dataclass(slots=True)
class Span:
    """The records of one partition in a batch: from `expected`, the offset Postgres must be at, up to but without `next`."""

    partition: int
    epoch: int
    expected: int
    next: int


@dataclass(slots=True)
class Batch:
    """Records of one topic, in order per partition. `runs` says which partition each stretch of `values` came from."""

    topic: str
    values: list[bytes | None] = field(default_factory=list)
    runs: list[tuple[int, int]] = field(default_factory=list)  # partition, number of records
    spans: dict[int, Span] = field(default_factory=dict)
    size_bytes: int = 0
    started_at: float = 0.0
    rows: list[Row] = field(default_factory=list)  # once decoded
    folded: Folded | None = None  # once folded; entities with deletes are folded inside the transaction

    def partition_of(self, index: int) -> int:
        """The partition that record `index` came from."""
        for partition, count in self.runs:
            if index < count:
                return partition
            index -= count
        raise IndexError(index)

    def without(self, dropped: set[int]) -> Batch:
        """The batch less some partitions; not decoded."""
        rest = Batch(self.topic, started_at=self.started_at)
        start = 0
        for partition, count in self.runs:
            values = self.values[start : start + count]
            start += count
            if partition not in dropped:
                rest.values += values
                rest.runs.append((partition, count))
                rest.size_bytes += sum(len(value or b"") for value in values)
        rest.spans = {p: span for p, span in self.spans.items() if p not in dropped}
        return rest


@dataclass(frozen=True, slots=True)
class Limits:
    """When a batch is full: records, bytes, or the age of its first record in seconds."""

    records_max: int
    bytes_max: int
    age_max_s: float


class Buffer:
    """The batch that one lane is filling."""

    def __init__(self, topic: str, limits: Limits) -> None:
        self._topic = topic
        self._limits = limits
        self._batch = Batch(topic)

    def add(self, span: Span, values: Sequence[bytes | None], now: float) -> None:
        """Append consecutive records of one partition; `span` continues where that partition's last one ended."""
        batch = self._batch
        if not batch.values:
            batch.started_at = now
        batch.values += values
        batch.runs.append((span.partition, len(values)))
        batch.size_bytes += sum(map(len, filter(None, values)))
        known = batch.spans.get(span.partition)
        if known is None:
            batch.spans[span.partition] = span
        else:
            known.next = span.next

    @property
    def full(self) -> bool:
        return len(self._batch.values) >= self._limits.records_max or self._batch.size_bytes >= self._limits.bytes_max

    def due_in(self, now: float) -> float | None:
        """Seconds until the batch must go, 0 when it must go now, None when there is nothing to send."""
        if not self._batch.values:
            return None
        return 0.0 if self.full else max(0.0, self._batch.started_at + self._limits.age_max_s - now)

    def take(self) -> Batch:
        """Hand the batch over and start a new one."""
        batch, self._batch = self._batch, Batch(self._topic)
        return batch

    def drop(self, partitions: set[int]) -> None:
        """Forget the records of partitions that are not ours any more."""
        if partitions & self._batch.spans.keys():
            self._batch = self._batch.without(partitions)

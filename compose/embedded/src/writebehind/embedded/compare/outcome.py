"""What comes out of a comparison, put together from samples of calls. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, NamedTuple

Op = Literal["read", "write"]
OPS: Final[tuple[Op, ...]] = ("read", "write")
BUCKET_S: Final = 0.25


class Sample(NamedTuple):
    """One call. `at_s`: when it ended, in seconds since its phase began; `old`: it read less than was acknowledged."""

    op: Op
    at_s: float
    ms: float
    error: str | None = None
    old: bool = False


@dataclass(frozen=True, slots=True)
class Latency:
    """Of calls that succeeded, in milliseconds."""

    count: int
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None

    @classmethod
    def of(cls, times_ms: Sequence[float]) -> Latency:
        ordered = sorted(times_ms)
        if not ordered:
            return cls(0, None, None, None)
        p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.5, 0.99))
        return cls(len(ordered), round(p50, 3), round(p99, 3), round(ordered[-1], 3))


@dataclass(frozen=True, slots=True)
class Load:
    """Undisturbed. `old_reads`: by a second client, of rows whose newer write had been acknowledged before."""

    seconds: float
    read: Latency
    write: Latency
    calls_per_s: int
    old_reads: int
    errors: dict[str, int]

    @classmethod
    def of(cls, samples: Sequence[Sample], seconds: float) -> Load:
        return cls(
            seconds=round(seconds, 3),
            read=_latency(samples, "read"),
            write=_latency(samples, "write"),
            calls_per_s=round(sum(one.error is None for one in samples) / seconds),
            old_reads=sum(one.old for one in samples),
            errors=_errors(samples),
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """From the acknowledgement of a write until it is seen, in milliseconds."""

    second_client: Latency
    table: Latency


@dataclass(frozen=True, slots=True)
class Outage:
    """A server was killed, and after `seconds` started again. `read` and `write` are the calls that began and ended in
    between, `errors` those that ended there; `old_reads` are counted until the end. `back_s`: from the start until a
    read and a write have succeeded, None when they have not.
    """

    seconds: float
    read: Latency
    write: Latency
    errors: dict[str, int]
    old_reads: int
    back_s: float | None
    timeline: list[dict[str, int]]

    @classmethod
    def of(cls, samples: Sequence[Sample], killed_s: float, started_s: float) -> Outage:
        between = [one for one in samples if killed_s <= one.at_s < started_s]
        wholly = [one for one in between if one.at_s - one.ms / 1000 >= killed_s]  # not answered before the kill
        good = [one for one in samples if one.error is None and one.at_s >= started_s]
        firsts = [min((one.at_s for one in good if one.op == op), default=None) for op in OPS]
        known = [first for first in firsts if first is not None]
        return cls(
            seconds=round(started_s - killed_s, 3),
            read=_latency(wholly, "read"),
            write=_latency(wholly, "write"),
            errors=_errors(between),
            old_reads=sum(one.old for one in samples if one.at_s >= killed_s),
            back_s=round(max(known) - started_s, 3) if len(known) == len(OPS) else None,
            timeline=timeline(samples),
        )


@dataclass(frozen=True, slots=True)
class Strategy:
    """One column of the table. `statements_per_write`: UPDATE or MERGE statements on the table."""

    load: Load
    seen: Seen
    statements_per_write: float
    cache_killed: Outage | None
    database_killed: Outage | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything. `skipped`: why no server was killed, or None."""

    parameters: dict[str, Any]
    machine: dict[str, Any]
    skipped: str | None
    strategies: dict[str, Strategy] = field(default_factory=dict[str, Strategy])

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def timeline(samples: Sequence[Sample]) -> list[dict[str, int]]:
    """Calls per BUCKET_S: reads, writes, and those that failed."""
    last = max((one.at_s for one in samples), default=0.0)
    buckets = [{"read": 0, "write": 0, "failed": 0} for _ in range(int(last / BUCKET_S) + 1)]
    for one in samples:
        buckets[int(one.at_s / BUCKET_S)][one.op if one.error is None else "failed"] += 1
    return buckets


def _latency(samples: Sequence[Sample], op: Op) -> Latency:
    return Latency.of([one.ms for one in samples if one.op == op and one.error is None])


def _errors(samples: Sequence[Sample]) -> dict[str, int]:
    """How many calls failed with what, as in {"write Unknown": 3}."""
    return dict(Counter(f"{one.op} {one.error}" for one in samples if one.error is not None).most_common())

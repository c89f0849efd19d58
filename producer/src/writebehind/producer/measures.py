"""What the producer measures, by OpenTelemetry's API alone: the service's SDK decides what comes of it, if anything.

All clients of a process share one set of instruments, because an SDK keeps only the first of a name. To add to an SDK's
counter costs as much as a tenth of a write, so totals are kept here and read when somebody collects, and durations are
those of a sample.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from opentelemetry.metrics import Meter, Observation, get_meter

from writebehind.shared import telemetry, telemetry_producer
from writebehind.shared.errors import InvalidWrite, Refused, Shed, Unknown, WritebehindError

from .write import Write

if TYPE_CHECKING:
    from .outbox import Outbox

SAMPLE_S = 0.02  # between two durations that are recorded: an SDK takes 10 to 20 µs for one


class Cache(Protocol):
    """The asynchronous or the synchronous one."""

    @property
    def left_alone(self) -> bool: ...


@dataclass(frozen=True, eq=False)
class Watched:
    """What gauges read of an open client. The client keeps it, so that one that was dropped is not read."""

    outbox: Outbox
    caches: Mapping[str, Cache]  # by the values of telemetry.BREAKER


class Measures:
    """The instruments. Called by any thread; nothing here waits for a collector."""

    def __init__(self, meter: Meter) -> None:
        self._lock = threading.Lock()
        self._writes: Counter[tuple[str, str]] = Counter()  # by entity and outcome
        self._late: Counter[tuple[str, str]] = Counter()
        self._sent: Counter[tuple[str, str]] = Counter()  # by topic and error
        self._watched: WeakSet[Watched] = WeakSet()
        self._sample_at = 0.0
        self._write_duration = telemetry_producer.WRITE_DURATION.histogram(meter)
        self._send_duration = telemetry_producer.SEND_DURATION.histogram(meter)
        telemetry_producer.WRITES.watch(meter, lambda: self._told(self._writes))
        telemetry_producer.LATE_FAILURES.watch(meter, lambda: self._told(self._late))
        telemetry_producer.SENT.watch(meter, self._answers)
        telemetry_producer.BUFFER_RECORDS.watch(meter, self._records)
        telemetry_producer.BUFFER_BYTES.watch(meter, self._bytes)
        telemetry_producer.BUFFER_UTILIZATION.watch(meter, self._utilization)
        telemetry_producer.BREAKER_OPEN.watch(meter, self._breakers)

    def watch(self, parts: Watched) -> None:
        """Let gauges read an open client."""
        with self._lock:
            self._watched.add(parts)

    def unwatch(self, parts: Watched) -> None:
        """The client is closed."""
        with self._lock:
            self._watched.discard(parts)

    def wrote(self, entity: str, count: int, done: str, failures: Collection[BaseException], began: float) -> None:
        """A call of so many writes has ended. `done` is the outcome of those that did not fail, `began` monotonic."""
        now = time.monotonic()
        outcomes = [outcome(failure) for failure in failures] if failures else ()
        with self._lock:
            if count > len(outcomes):
                self._writes[entity, done] += count - len(outcomes)
            for failed in outcomes:
                self._writes[entity, failed] += 1
            if now < self._sample_at:
                return
            self._sample_at = now + SAMPLE_S
        attributes = {telemetry.ENTITY: entity, telemetry.OUTCOME: outcomes[0] if outcomes else done}
        self._write_duration.record(now - began, attributes)

    def failed_late(self, entity: str, failure: Exception) -> None:
        """A write has failed when nobody waited for it."""
        with self._lock:
            self._late[entity, outcome(failure)] += 1

    def answered(self, writes: Sequence[Write]) -> None:
        """The broker has answered for these."""
        counts = Counter([write.target.topic for write in writes if write.error is None])
        failed = [(write.target.topic, write.error.name()) for write in writes if write.error is not None]
        with self._lock:
            for topic, count in counts.items():
                self._sent[topic, ""] += count
            self._sent.update(failed)

    def answered_after(self, write: Write, took_s: float) -> None:
        """How long the broker took for one of them."""
        error = "" if write.error is None else write.error.name()
        self._send_duration.record(took_s, _sending(write.target.topic, error))

    def _told(self, counts: Counter[tuple[str, str]]) -> Iterable[Observation]:
        with self._lock:
            known = list(counts.items())
        return [
            Observation(count, {telemetry.ENTITY: entity, telemetry.OUTCOME: told}) for (entity, told), count in known
        ]

    def _answers(self) -> Iterable[Observation]:
        with self._lock:
            known = list(self._sent.items())
        return [Observation(count, _sending(topic, error)) for (topic, error), count in known]

    def _records(self) -> Iterable[Observation]:
        return [Observation(sum(parts.outbox.in_flight for parts in self._clients()))]

    def _bytes(self) -> Iterable[Observation]:
        return [Observation(sum(parts.outbox.in_flight_bytes for parts in self._clients()))]

    def _utilization(self) -> Iterable[Observation]:
        return [Observation(max((parts.outbox.utilization for parts in self._clients()), default=0.0))]

    def _breakers(self) -> Iterable[Observation]:
        counts = dict.fromkeys(sorted(telemetry.VALUES[telemetry.BREAKER]), 0)
        for parts in self._clients():
            for name, cache in parts.caches.items():
                counts[name] += cache.left_alone
        return [Observation(count, {telemetry.BREAKER: name}) for name, count in counts.items()]

    def _clients(self) -> list[Watched]:
        with self._lock:
            return list(self._watched)


@functools.cache
def of_process() -> Measures:
    """Those of this process."""
    return Measures(get_meter(telemetry.SCOPE, schema_url=telemetry.SCHEMA_URL))


def outcome(failure: BaseException) -> str:
    """What became of a write that failed, in a word. Whatever is not ours, such as a cancelled call, leaves it open."""
    match failure:
        case InvalidWrite() | Refused():
            return "refused"
        case Shed():
            return "shed"
        case Unknown():
            return "unknown"
        case WritebehindError():
            return "not_applied"
        case _:
            return "unknown"


def _sending(topic: str, error: str) -> dict[str, str]:
    attributes = {telemetry.SYSTEM: "kafka", telemetry.OPERATION: "send", telemetry.DESTINATION: topic}
    return {**attributes, telemetry.ERROR: error} if error else attributes

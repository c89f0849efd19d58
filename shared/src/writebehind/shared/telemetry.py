"""Every name that telemetry uses: series, their units and the attributes they may have.

Names of the messaging and database conventions are OpenTelemetry's (semantic conventions 1.44); ours begin with
`writebehind.`. No attribute is a key, an offset or an id: each has a bound that a deployment's declarations and topics
set, or a list here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation

SCOPE = "writebehind"
SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"

SYSTEM = "messaging.system"
DESTINATION = "messaging.destination.name"
PARTITION = "messaging.destination.partition.id"
OPERATION = "messaging.operation.name"
CLASS = "writebehind.retry.class"
CAUSE = "writebehind.cause"

#: What the attributes with a closed list may hold. The others hold names of topics, tables and partitions.
VALUES = {
    SYSTEM: frozenset({"kafka"}),
    OPERATION: frozenset({"send", "poll", "process"}),
    CLASS: frozenset({"transient", "systemic", "broker"}),
    CAUSE: frozenset({"systemic", "partition"}),
}


@dataclass(frozen=True, slots=True)
class Series:
    """One series. `unit` is in UCUM; `attributes` are all that it may have; `buckets` are a histogram's bounds."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] | None = None

    def counter(self, meter: Meter) -> Counter:
        return meter.create_counter(self.name, self.unit, self.description)

    def histogram(self, meter: Meter) -> Histogram:
        return meter.create_histogram(
            self.name, self.unit, self.description, explicit_bucket_boundaries_advisory=self.buckets
        )

    def gauge(self, meter: Meter, observe: Callable[[], Iterable[Observation]]) -> None:
        """`observe` is called in the thread that collects: it may only read what is in memory."""

        def callback(_options: CallbackOptions) -> Iterable[Observation]:
            return observe()

        meter.create_observable_gauge(self.name, [callback], self.unit, self.description)


STOPS = Series(
    "counter",
    "writebehind.flusher.stops",
    "{stop}",
    "how often an entity (cause systemic) or a partition was stopped until somebody mends what is wrong",
    (DESTINATION, CAUSE),
)
STOPPED = Series(
    "gauge",
    "writebehind.flusher.stopped",
    "{stop}",
    "entities (cause systemic) and partitions that are stopped now",
    (DESTINATION, CAUSE),
)
RETRIES = Series(
    "counter",
    "writebehind.flusher.retries",
    "{attempt}",
    "attempts to write a batch that failed for a reason that passes or is mended, by its class",
    (DESTINATION, CLASS),
)

FLUSHER: Sequence[Series] = (STOPS, STOPPED, RETRIES)

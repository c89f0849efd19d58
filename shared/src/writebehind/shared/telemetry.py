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
ERROR = "error.type"
DB_SYSTEM = "db.system.name"
DB_COLLECTION = "db.collection.name"
DB_OPERATION = "db.operation.name"
ENTITY = "writebehind.entity"
CLASS = "writebehind.retry.class"
CAUSE = "writebehind.cause"
REASON = "writebehind.letter.reason"
OUTCOME = "writebehind.outcome"
BREAKER = "writebehind.breaker"
OPERATION_TYPE = "messaging.operation.type"  # of spans
VERDICT = "writebehind.audit.verdict"
REPAIR = "writebehind.audit.repair"
RUN_OUTCOME = "writebehind.audit.outcome"
BATCH_COUNT = "messaging.batch.message_count"  # of spans
GROUP = "messaging.consumer.group.name"  # of spans
TRACEPARENT = "traceparent"  # the header of a record that was written within a trace

#: What the attributes with a closed list may hold. The others hold names of topics, tables and partitions.
VALUES = {
    SYSTEM: frozenset({"kafka"}),
    OPERATION: frozenset({"send", "poll", "process"}),
    DB_SYSTEM: frozenset({"postgresql"}),
    DB_OPERATION: frozenset({"MERGE"}),
    CLASS: frozenset({"transient", "systemic", "broker"}),
    CAUSE: frozenset({"systemic", "partition"}),
    OUTCOME: frozenset({"acknowledged", "enqueued", "uncommitted", "refused", "not_applied", "shed", "unknown"}),
    BREAKER: frozenset({"write_behind", "direct"}),
    VERDICT: frozenset(
        {"in_sync", "pending", "unsettled", "lost", "stale", "differs", "orphan", "refused", "unreadable"}
    ),
    REPAIR: frozenset({"invalidated", "settled", "enqueued_again", "moved_on", "not_acknowledged", "left_alone"}),
    RUN_OUTCOME: frozenset({"clean", "drift", "unreadable", "stopped", "failed"}),
}

ATTRIBUTES = {
    SYSTEM: "the broker's kind",
    DESTINATION: "topic",
    PARTITION: "partition of the topic",
    OPERATION: "what is done with the messages",
    OPERATION_TYPE: "the same, of spans",
    ERROR: "what failed: a SQLSTATE, librdkafka's name of an error, or an exception's class; absent when nothing did",
    DB_SYSTEM: "the database's kind",
    DB_COLLECTION: "table",
    DB_OPERATION: "statement",
    ENTITY: "name of the entity",
    CLASS: "who or what is waited for: nobody, somebody who mends a table or a privilege, or the broker",
    CAUSE: "what is stopped: an entity whose table or privilege somebody has to mend, or a partition with a gap",
    REASON: "why records were skipped",
    OUTCOME: "what the caller was told: `uncommitted` is written in the caller's own transaction, `refused` breaks a "
    "rule, `not_applied` may be tried again",
    BREAKER: "of which entities: those that are written behind, or those whose rows the caller writes",
    VERDICT: "what an entry turned out to be",
    REPAIR: "what became of a repair",
    RUN_OUTCOME: "how a run ended: `stopped` can be gone on with, `failed` could not audit",
    BATCH_COUNT: "messages of a batch",
    GROUP: "consumer group",
}


@dataclass(frozen=True, slots=True)
class SpanName:
    """A span: its name, where braces stand for a topic or a table, its kind and all attributes it may have."""

    name: str
    kind: Literal["producer", "consumer", "client"]
    description: str
    attributes: tuple[str, ...]


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

    def watch(self, meter: Meter, observe: Callable[[], Iterable[Observation]]) -> None:
        """Have a gauge, or a counter's total, read. `observe` is called in the thread that collects: it may only read
        what is in memory.
        """

        def callback(_options: CallbackOptions) -> Iterable[Observation]:
            return observe()

        create = meter.create_observable_gauge if self.kind == "gauge" else meter.create_observable_counter
        create(self.name, [callback], self.unit, self.description)


SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_COUNTS = (1, 10, 100, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000)
_RATIOS = (1, 1.25, 1.5, 2, 3, 5, 10, 30, 100, 1_000, 10_000)

CONSUMED = Series(
    "counter",
    "messaging.client.consumed.messages",
    "{message}",
    "records taken into a batch",
    (SYSTEM, OPERATION, DESTINATION),
)
PROCESS = Series(
    "histogram",
    "messaging.process.duration",
    "s",
    "from a batch's first record until the batch is committed",
    (SYSTEM, OPERATION, DESTINATION),
    SECONDS,
)
DATABASE = Series(
    "histogram",
    "db.client.operation.duration",
    "s",
    "one attempt to write a batch: the whole transaction; error.type is the SQLSTATE",
    (DB_SYSTEM, DB_OPERATION, DB_COLLECTION, ERROR),
    SECONDS,
)
RECORDS = Series("counter", "writebehind.flusher.records", "{record}", "records committed", (DESTINATION,))
ROWS = Series("counter", "writebehind.flusher.rows", "{row}", "rows committed: records folded per key", (DESTINATION,))
BATCH_ROWS = Series("histogram", "writebehind.flusher.batch.rows", "{row}", "rows of a batch", (DESTINATION,), _COUNTS)
COALESCING = Series(
    "histogram", "writebehind.flusher.batch.coalescing", "1", "records per row of a batch", (DESTINATION,), _RATIOS
)
DELAY = Series(
    "histogram",
    "writebehind.flusher.delay",
    "s",
    "from the broker's time of a batch's oldest record until it is in the database",
    (DESTINATION,),
    SECONDS,
)
LETTERS = Series(
    "counter",
    "writebehind.flusher.letters",
    "{letter}",
    "records skipped, by reason: a SQLSTATE, unreadable, or unencodable",
    (DESTINATION, REASON),
)
SETTLE_FAILURES = Series(
    "counter",
    "writebehind.flusher.settle.failures",
    "{settlement}",
    "commits that the cache could not be told of; their entries are dropped when it answers",
    (ENTITY,),
)
FENCES = Series(
    "counter",
    "writebehind.flusher.fences",
    "{batch}",
    "batches dropped because another flusher owns a partition now",
    (DESTINATION,),
)
LAG_RECORDS = Series(
    "gauge",
    "writebehind.flusher.lag.records",
    "{record}",
    "records not yet in the database, of partitions that are ours",
    (DESTINATION, PARTITION),
)
LAG_AGE = Series(
    "gauge",
    "writebehind.flusher.lag.age",
    "s",
    "age of the oldest record that is not in the database, of partitions that are ours; 0 when there is none",
    (DESTINATION, PARTITION),
)
OLDEST = Series(
    "gauge",
    "writebehind.flusher.oldest_pending.age",
    "s",
    "age of a topic's oldest record that was consumed and is not in the database",
    (DESTINATION,),
)
OWNED = Series("gauge", "writebehind.flusher.partitions", "{partition}", "partitions that are ours", (DESTINATION,))
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

FLUSHER: Sequence[Series] = (
    CONSUMED,
    PROCESS,
    DATABASE,
    RECORDS,
    ROWS,
    BATCH_ROWS,
    COALESCING,
    DELAY,
    LETTERS,
    SETTLE_FAILURES,
    FENCES,
    LAG_RECORDS,
    LAG_AGE,
    OLDEST,
    OWNED,
    STOPS,
    STOPPED,
    RETRIES,
)

SPANS: Sequence[SpanName] = (
    SpanName(
        "send {topic}",
        "producer",
        "a call that writes behind, until it returns",
        (SYSTEM, OPERATION, OPERATION_TYPE, DESTINATION, BATCH_COUNT, ERROR),
    ),
    SpanName(
        "process {topic}",
        "consumer",
        "a batch of a flusher, from its first record to its commit, linked to the calls that wrote its records",
        (SYSTEM, OPERATION, OPERATION_TYPE, DESTINATION, BATCH_COUNT, GROUP, ERROR),
    ),
    SpanName(
        "MERGE {table}",
        "client",
        "one attempt to write a batch, a transaction",
        (DB_SYSTEM, DB_OPERATION, DB_COLLECTION, ERROR),
    ),
)

AUDIT_ENTRIES = Series(
    "counter",
    "writebehind.audit.entries",
    "{entry}",
    "cached entries compared with their rows, by what they turned out to be",
    (ENTITY, VERDICT),
)
AUDIT_REPAIRS = Series(
    "counter",
    "writebehind.audit.repairs",
    "{entry}",
    "entries that were repaired, or tried to be; a dry run counts none",
    (ENTITY, REPAIR),
)
AUDIT_VERIFIED_AGE = Series(
    "gauge",
    "writebehind.audit.verified_through.age",
    "s",
    "how long ago the newest run began that found all cached entries of an entity in sync",
    (ENTITY,),
)
AUDIT_RUN = Series(
    "histogram",
    "writebehind.audit.run.duration",
    "s",
    "a run of the audit from its begin to its report; of one that goes on with another, its own part",
    (RUN_OUTCOME,),
    (1, 5, 10, 30, 60, 300, 600, 1_800, 3_600, 10_800, 21_600, 86_400),
)

AUDIT: Sequence[Series] = (AUDIT_ENTRIES, AUDIT_REPAIRS, AUDIT_VERIFIED_AGE, AUDIT_RUN)

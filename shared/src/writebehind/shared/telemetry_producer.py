"""The series of the producer library. Names and rules: `telemetry`."""

from __future__ import annotations

from collections.abc import Sequence

from .telemetry import BREAKER, DESTINATION, ENTITY, ERROR, OPERATION, OUTCOME, SECONDS, SYSTEM, Series

WRITES = Series(
    "counter",
    "writebehind.producer.writes",
    "{write}",
    "writes of any strategy that passed their checks, by what the caller was told",
    (ENTITY, OUTCOME),
)
WRITE_DURATION = Series(
    "histogram",
    "writebehind.producer.write.duration",
    "s",
    "one call that writes, until it returns: of a sample, at most 50 calls a second of a process",
    (ENTITY, OUTCOME),
    SECONDS,
)
LATE_FAILURES = Series(
    "counter",
    "writebehind.producer.late_failures",
    "{write}",
    "writes that failed when nobody waited for them any more, after a time-out or with wait='enqueued'",
    (ENTITY, OUTCOME),
)
SENT = Series(
    "counter",
    "messaging.client.sent.messages",
    "{message}",
    "records that the broker has answered for; error.type is librdkafka's name for its error",
    (SYSTEM, OPERATION, DESTINATION, ERROR),
)
SEND_DURATION = Series(
    "histogram",
    "messaging.client.operation.duration",
    "s",
    "from handing a record to librdkafka to the broker's answer: of a sample, at most 50 records a second of a client",
    (SYSTEM, OPERATION, DESTINATION, ERROR),
    SECONDS,
)
BUFFER_RECORDS = Series(
    "gauge", "writebehind.producer.buffer.records", "{record}", "records handed over and not answered"
)
BUFFER_BYTES = Series("gauge", "writebehind.producer.buffer.size", "By", "the same in bytes")
BUFFER_UTILIZATION = Series(
    "gauge",
    "writebehind.producer.buffer.utilization",
    "1",
    "how much of max_in_flight or max_in_flight_bytes is taken, whichever is more; of the fullest client",
)
BREAKER_OPEN = Series(
    "gauge",
    "writebehind.producer.breaker.open",
    "{breaker}",
    "circuit breakers that keep calls away from the cache now, of all clients of the process",
    (BREAKER,),
)

PRODUCER: Sequence[Series] = (
    WRITES,
    WRITE_DURATION,
    LATE_FAILURES,
    SENT,
    SEND_DURATION,
    BUFFER_RECORDS,
    BUFFER_BYTES,
    BUFFER_UTILIZATION,
    BREAKER_OPEN,
)

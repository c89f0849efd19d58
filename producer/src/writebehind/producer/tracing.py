"""The span of a call that sends, and the header that takes it to the flusher.

Only within a span of the caller's that is recorded: elsewhere nothing is begun, and records do not grow. A span costs
the caller and the exporter more than the write, so a process makes `SPANS_PER_S` of them; what is sent beyond that
carries the caller's own span to the flusher.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Any, Self

from opentelemetry.context import get_current
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    format_span_id,
    format_trace_id,
    get_tracer,
)
from opentelemetry.trace.propagation import _SPAN_KEY  # pyright: ignore[reportPrivateUsage]  # see span_of

from writebehind.shared import telemetry

from .measures import Measures
from .write import Headers, Write

SPANS_PER_S = 10

_TRACER = get_tracer(telemetry.SCOPE, schema_url=telemetry.SCHEMA_URL)


class Call:
    """One call of a client that writes; as a context manager, so that however it ends is told.

    `failures` are what became of single writes; an exception that leaves the block is that of all.
    """

    __slots__ = ("_began", "_count", "_done", "_entity", "_measures", "_span", "failures")

    def __init__(self, measures: Measures, entity: str, count: int, done: str, span: Span | None = None) -> None:
        self._measures = measures
        self._entity = entity
        self._count = count
        self._done = done
        self._span = span
        self._began = time.monotonic()
        self.failures: Collection[BaseException] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failures = self.failures if error is None else [error] * self._count
        self._measures.wrote(self._entity, self._count, self._done, failures, self._began)
        if self._span is not None:
            for failure in failures:
                # The type alone: a message may quote a key.
                self._span.set_attribute(telemetry.ERROR, type(failure).__qualname__)
                self._span.set_status(Status(StatusCode.ERROR))
                break
            self._span.end()


class _Ration:
    """So many of something in a second, in any threads; a few more when they come at once."""

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._left = 0
        self._until = 0.0

    def take(self) -> bool:
        now = time.monotonic()
        if now >= self._until:
            self._left, self._until = self._per_s, now + 1.0
        self._left -= 1
        return self._left >= 0


_RATION = _Ration(SPANS_PER_S)


def span_of(writes: Sequence[Write]) -> Span | None:
    """Begin the span of writes to one topic and let their records carry it. None when the caller's is not recorded, or
    spans are used up: then the records carry the caller's.
    """
    # As get_current_span() does, in fewer calls: this is asked on each write, and hardly any is recorded.
    current: Any = get_current().get(_SPAN_KEY)
    if current is None or type(current) is NonRecordingSpan or not current.is_recording():
        return None
    if not _RATION.take():
        _carry(current.get_span_context(), writes)
        return None
    topic = writes[0].target.topic
    attributes: dict[str, str | int] = {
        telemetry.SYSTEM: "kafka",
        telemetry.OPERATION: "send",
        telemetry.OPERATION_TYPE: "send",
        telemetry.DESTINATION: topic,
    }
    if len(writes) > 1:
        attributes[telemetry.BATCH_COUNT] = len(writes)
    span = _TRACER.start_span(f"send {topic}", kind=SpanKind.PRODUCER, attributes=attributes)
    _carry(span.get_span_context(), writes)
    return span


def _carry(context: SpanContext, writes: Sequence[Write]) -> None:
    if context.trace_flags.sampled:
        headers: Headers = [(telemetry.TRACEPARENT, traceparent(context))]
        for write in writes:
            write.headers = headers


def traceparent(context: SpanContext) -> bytes:
    """The header of the W3C's Trace Context, version 00. Without `tracestate`, which may be longer than a record."""
    ids = f"{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}"
    return f"00-{ids}-{context.trace_flags:02x}".encode()

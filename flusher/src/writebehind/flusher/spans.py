"""The traces of a flusher: a span per batch, linked to the writes it came from, and one per attempt to write it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import psycopg
from confluent_kafka import Message
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer, get_current_span, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from writebehind.shared import telemetry

from .batch import Batch

LINKS_MAX = 128  # links of a batch's span, each to another span of a producer
HEADERS_MAX = 10_000  # records with headers that are looked at for them
_W3C = TraceContextTextMapPropagator()


class Spans:
    """Nothing happens when no traces are exported (`tracer` None)."""

    def __init__(self, tracer: Tracer | None, group: str) -> None:
        self._tracer = tracer
        self._group = group

    def link(self, batch: Batch) -> None:
        """Find what the span of a batch is linked to; not in the thread that the database waits for."""
        if self._tracer is not None:
            batch.links = links(batch.messages)

    @contextmanager
    def processing(self, batch: Batch) -> Iterator[None]:
        """The span of a batch, from its first record to its commit."""
        if self._tracer is None:
            yield
            return
        span = self._tracer.start_span(
            f"process {batch.topic}",
            kind=SpanKind.CONSUMER,
            attributes={
                **messaging(batch.topic, "process"),
                telemetry.OPERATION_TYPE: "process",
                telemetry.BATCH_COUNT: len(batch.messages) + len(batch.letters),
                telemetry.GROUP: self._group,
            },
            links=batch.links,
            start_time=time.time_ns() - int(max(0.0, time.monotonic() - batch.started_at) * 1e9),
        )
        with _ended(span):
            yield

    @contextmanager
    def attempt(self, table: str, attributes: Mapping[str, str]) -> Iterator[None]:
        """The span of one transaction, within that of its batch."""
        if self._tracer is None:
            yield
            return
        with _ended(self._tracer.start_span(f"MERGE {table}", kind=SpanKind.CLIENT, attributes=attributes)):
            yield


def links(messages: Sequence[Message]) -> Sequence[Link]:
    """To the spans that records were written in: those of one call have the same."""
    found: dict[bytes, Link] = {}
    for headers in [headers for headers in map(Message.headers, messages) if headers][:HEADERS_MAX]:
        value = dict(headers).get(telemetry.TRACEPARENT)
        if not isinstance(value, bytes) or value in found:
            continue
        context = get_current_span(_W3C.extract({telemetry.TRACEPARENT: value.decode("latin-1")})).get_span_context()
        if context.is_valid:
            found[value] = Link(context)
        if len(found) == LINKS_MAX:
            break
    return list(found.values())


def messaging(topic: str, operation: str) -> dict[str, str]:
    """The attributes of an operation on a topic."""
    return {telemetry.SYSTEM: "kafka", telemetry.OPERATION: operation, telemetry.DESTINATION: topic}


def error_type(error: BaseException) -> str:
    """A SQLSTATE, or the name of what was raised."""
    return known_state(error.sqlstate) if isinstance(error, psycopg.Error) and error.sqlstate else type(error).__name__


def known_state(state: str) -> str:
    """A SQLSTATE, or its class: a trigger may make up as many codes as it likes."""
    try:
        psycopg.errors.lookup(state)
    except KeyError:
        return f"{state[:2]}xxx" if state[:1] in "0123456789FHPX" else "other"
    return state


@contextmanager
def _ended(span: Span) -> Iterator[None]:
    with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield
        except BaseException as error:
            # Without its message: a server's quotes values.
            span.set_attribute(telemetry.ERROR, error_type(error))
            span.set_status(Status(StatusCode.ERROR))
            raise

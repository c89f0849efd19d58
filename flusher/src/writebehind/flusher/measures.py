"""What the flusher counts. Recorded per batch or event, never per record; without telemetry each call does nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import psycopg
from opentelemetry.metrics import Meter, NoOpMeter, Observation
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, Tracer, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from writebehind.shared import telemetry
from writebehind.shared.declaration import Declaration

from .batch import Batch
from .letterbox import Draft

LINKS_MAX = 128  # links of a batch's span: one per record that carries a trace, of the first ones that do
_W3C = TraceContextTextMapPropagator()


class Measures:
    """The instruments. Called by the loop's and the lanes' threads; they do not wait."""

    def __init__(self, meter: Meter | None = None, tracer: Tracer | None = None, *, group: str = "") -> None:
        self.on = meter is not None
        self._meter = meter = meter or NoOpMeter(telemetry.SCOPE)
        self._tracer = tracer
        self._group = group
        self._consumed = telemetry.CONSUMED.counter(meter)
        self._process = telemetry.PROCESS.histogram(meter)
        self._database = telemetry.DATABASE.histogram(meter)
        self._records = telemetry.RECORDS.counter(meter)
        self._rows = telemetry.ROWS.counter(meter)
        self._batch_rows = telemetry.BATCH_ROWS.histogram(meter)
        self._coalescing = telemetry.COALESCING.histogram(meter)
        self._delay = telemetry.DELAY.histogram(meter)
        self._letters = telemetry.LETTERS.counter(meter)
        self._settle_failures = telemetry.SETTLE_FAILURES.counter(meter)
        self._fences = telemetry.FENCES.counter(meter)
        self._stops = telemetry.STOPS.counter(meter)
        self._retries = telemetry.RETRIES.counter(meter)

    def watch(self, series: telemetry.Series, observe: Callable[[], Iterable[Observation]]) -> None:
        """Let a gauge read what is in memory whenever somebody collects."""
        series.gauge(self._meter, observe)

    def consumed(self, batch: Batch) -> None:
        self._consumed.add(len(batch.messages) + len(batch.letters), _messaging(batch.topic, "poll"))

    def committed(self, batch: Batch, rows: int) -> None:
        """A batch is in the database, as so many rows."""
        if not self.on:
            return
        of_topic = {telemetry.DESTINATION: batch.topic}
        self._records.add(len(batch.rows), of_topic)
        self._rows.add(rows, of_topic)
        if rows:
            self._batch_rows.record(rows, of_topic)
            self._coalescing.record(len(batch.rows) / rows, of_topic)
        self._process.record(max(0.0, time.monotonic() - batch.started_at), _messaging(batch.topic, "process"))
        written = [span.written_at for span in batch.spans.values() if span.written_at]
        if written:
            self._delay.record(max(0.0, time.time() - min(written)), of_topic)
        for reason, count in Counter(map(_reason, batch.letters)).items():
            self._letters.add(count, {**of_topic, telemetry.REASON: reason})

    @contextmanager
    def attempt(self, declaration: Declaration) -> Iterator[None]:
        """Time one transaction."""
        attributes = {
            telemetry.DB_SYSTEM: "postgresql",
            telemetry.DB_OPERATION: "MERGE",
            telemetry.DB_COLLECTION: declaration.table,
        }
        began = time.monotonic()
        try:
            yield
        except Exception as error:
            attributes[telemetry.ERROR] = _error_type(error)
            raise
        finally:
            self._database.record(time.monotonic() - began, attributes)

    @contextmanager
    def processing(self, batch: Batch) -> Iterator[None]:
        """The span of a batch, linked to the writes it came from. Nothing when no traces are exported."""
        if self._tracer is None:
            yield
            return
        attributes: dict[str, str | int] = {
            **_messaging(batch.topic, "process"),
            telemetry.BATCH_COUNT: len(batch.messages),
            telemetry.GROUP: self._group,
        }
        with self._tracer.start_as_current_span(
            f"process {batch.topic}",
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=_links(batch),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                # Without its message: a server's quotes values.
                span.set_status(Status(StatusCode.ERROR, _error_type(error)))
                raise

    def fenced(self, topic: str) -> None:
        self._fences.add(1, {telemetry.DESTINATION: topic})

    def settle_failed(self, entity: str) -> None:
        self._settle_failures.add(1, {telemetry.ENTITY: entity})

    def retry(self, topic: str, kind: str) -> None:
        self._retries.add(1, {telemetry.DESTINATION: topic, telemetry.CLASS: kind})

    def stop(self, topic: str, cause: str) -> None:
        self._stops.add(1, {telemetry.DESTINATION: topic, telemetry.CAUSE: cause})


def _messaging(topic: str, operation: str) -> dict[str, str]:
    return {telemetry.SYSTEM: "kafka", telemetry.OPERATION: operation, telemetry.DESTINATION: topic}


def _error_type(error: BaseException) -> str:
    return _known(error.sqlstate) if isinstance(error, psycopg.Error) and error.sqlstate else type(error).__name__


def _reason(draft: Draft) -> str:
    if draft.version is None:
        return "unreadable"
    return _known(draft.cause.sqlstate) if draft.cause.sqlstate else "unencodable"


def _known(state: str) -> str:
    """A SQLSTATE, or its class: a trigger may make up as many codes as it likes."""
    try:
        psycopg.errors.lookup(state)
    except KeyError:
        return f"{state[:2]}xxx" if state[:1] in "0123456789FHPX" else "other"
    return state


def _links(batch: Batch) -> Sequence[Link]:
    found: list[Link] = []
    for message in batch.messages[: 4 * LINKS_MAX]:
        headers = message.headers()
        if not headers:
            continue
        carrier = {name: value.decode("latin-1") for name, value in dict(headers).items() if isinstance(value, bytes)}
        context = get_current_span(_W3C.extract(carrier)).get_span_context()
        if context.is_valid:
            found.append(Link(context))
        if len(found) == LINKS_MAX:
            break
    return found

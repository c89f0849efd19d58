"""What the flusher counts. Recorded per batch or event, never per record; without telemetry each call does nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from opentelemetry.metrics import Meter, NoOpMeter, Observation
from opentelemetry.trace import Tracer

from writebehind.shared import telemetry
from writebehind.shared.declaration import Declaration

from .batch import Batch
from .letterbox import Draft
from .spans import Spans, error_type, known_state, messaging


class Measures:
    """The instruments. Called by the loop's and the lanes' threads; they do not wait."""

    def __init__(self, meter: Meter | None = None, tracer: Tracer | None = None, *, group: str = "") -> None:
        self.on = meter is not None
        self.spans = Spans(tracer, group)
        self._meter = meter = meter or NoOpMeter(telemetry.SCOPE)
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
        series.watch(self._meter, observe)

    def consumed(self, batch: Batch) -> None:
        self._consumed.add(len(batch.messages) + len(batch.letters), messaging(batch.topic, "poll"))

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
        self._process.record(max(0.0, time.monotonic() - batch.started_at), messaging(batch.topic, "process"))
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
            with self.spans.attempt(declaration.table, attributes):
                yield
        except Exception as error:
            attributes[telemetry.ERROR] = error_type(error)
            raise
        finally:
            self._database.record(time.monotonic() - began, attributes)

    def fenced(self, topic: str) -> None:
        self._fences.add(1, {telemetry.DESTINATION: topic})

    def settle_failed(self, entity: str) -> None:
        self._settle_failures.add(1, {telemetry.ENTITY: entity})

    def retry(self, topic: str, kind: str) -> None:
        self._retries.add(1, {telemetry.DESTINATION: topic, telemetry.CLASS: kind})

    def stop(self, topic: str, cause: str) -> None:
        self._stops.add(1, {telemetry.DESTINATION: topic, telemetry.CAUSE: cause})


def _reason(draft: Draft) -> str:
    if draft.version is None:
        return "unreadable"
    return known_state(draft.cause.sqlstate) if draft.cause.sqlstate else "unencodable"

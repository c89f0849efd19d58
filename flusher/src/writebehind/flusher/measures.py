"""What the flusher counts. Recorded per batch or event, never per record; without telemetry each call does nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from opentelemetry.metrics import Meter, NoOpMeter, Observation

from writebehind.shared import telemetry


class Measures:
    """The instruments. Called by the loop's and the lanes' threads; they do not wait."""

    def __init__(self, meter: Meter | None = None) -> None:
        meter = meter or NoOpMeter(telemetry.SCOPE)
        self._meter = meter
        self._stops = telemetry.STOPS.counter(meter)
        self._retries = telemetry.RETRIES.counter(meter)

    def watch(self, series: telemetry.Series, observe: Callable[[], Iterable[Observation]]) -> None:
        """Let a gauge read what is in memory whenever somebody collects."""
        series.gauge(self._meter, observe)

    def retry(self, topic: str, kind: str) -> None:
        self._retries.add(1, {telemetry.DESTINATION: topic, telemetry.CLASS: kind})

    def stop(self, topic: str, cause: str) -> None:
        self._stops.add(1, {telemetry.DESTINATION: topic, telemetry.CAUSE: cause})

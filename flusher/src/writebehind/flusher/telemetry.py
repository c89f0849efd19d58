"""Where measurements go, by OpenTelemetry's own variables: `OTEL_METRICS_EXPORTER`, `OTEL_EXPORTER_OTLP_ENDPOINT`, ...

Unlike the specification's, our default is to export nothing; `/metrics` is there whenever health is served. Exporters
work in threads of their own: a collector that is dead delays neither a batch nor the shutdown.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.trace import Tracer
from prometheus_client import CollectorRegistry, generate_latest, start_http_server

from writebehind.shared import telemetry
from writebehind.shared.errors import ConfigurationError

log = logging.getLogger("writebehind.flusher")

CLOSE_S = 1.0  # how long a flusher's shutdown waits for the last export
SERVICE = "writebehind-flusher"
_PROMETHEUS = "OTEL_EXPORTER_PROMETHEUS"


class Telemetry:
    """What measurements are made with. `prometheus_text` is what `/metrics` answers."""

    def __init__(self, meter: Meter | None, tracer: Tracer | None, prometheus_text: Callable[[], bytes]) -> None:
        self.meter = meter  # None: nobody reads measurements
        self.tracer = tracer  # None: traces go nowhere
        self.prometheus_text = prometheus_text

    @staticmethod
    @contextmanager
    def open(
        environment: Mapping[str, str], *, prometheus: bool, service: str = SERVICE, close_s: float = CLOSE_S
    ) -> Iterator[Telemetry]:
        """Set up what the variables ask for. Raises ConfigurationError for an exporter that we do not have.

        prometheus: whether somebody serves `prometheus_text`. Else, or when a port is named for it, the exporter
            `prometheus` serves them itself, at `OTEL_EXPORTER_PROMETHEUS_HOST` and `_PORT` (localhost, 9464).
        service: the name that is exported unless the variables have one.
        close_s: how long the end waits for the last export; what the collector does not take by then is given up.
        """
        measured = _exporters(environment, "OTEL_METRICS_EXPORTER")
        readers = _readers(measured, environment)
        text: Callable[[], bytes] = bytes
        shutdowns: list[Callable[[], object]] = []
        serves = "prometheus" in measured and (not prometheus or f"{_PROMETHEUS}_PORT" in environment)
        if (prometheus or serves) and not _disabled(environment):
            reader, registry = _prometheus()
            readers.append(reader)
            text = partial(generate_latest, registry)
            if serves:
                shutdowns.append(_serve(environment, registry))
        traced = _exporters(environment, "OTEL_TRACES_EXPORTER")
        resource = _resource(environment, service) if readers or traced else None
        meters = MeterProvider(readers, resource, shutdown_on_exit=False) if readers else None
        spans = _tracer_provider(traced, resource, environment) if traced else None
        try:
            yield Telemetry(
                meters.get_meter(telemetry.SCOPE, schema_url=telemetry.SCHEMA_URL) if meters else None,
                spans.get_tracer(telemetry.SCOPE, schema_url=telemetry.SCHEMA_URL) if spans else None,
                text,
            )
        finally:
            _close([*shutdowns, *(one.shutdown for one in (meters, spans) if one is not None)], close_s)


def _exporters(environment: Mapping[str, str], variable: str) -> list[str]:
    names = [name.strip() for name in environment.get(variable, "").split(",") if name.strip() not in ("", "none")]
    if unknown := sorted(set(names) - {"otlp", "console", "prometheus"}):
        raise ConfigurationError(f"{variable}: there is no exporter {unknown[0]} here; otlp, console, prometheus, none")
    return [] if _disabled(environment) else names


def _disabled(environment: Mapping[str, str]) -> bool:
    return environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _readers(names: list[str], environment: Mapping[str, str]) -> list[MetricReader]:
    found: list[MetricReader] = []
    if "otlp" in names:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

        _check_protocol(environment, "METRICS")
        found.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
    if "console" in names:
        found.append(PeriodicExportingMetricReader(ConsoleMetricExporter()))
    return found


def _tracer_provider(names: list[str], resource: Resource | None, environment: Mapping[str, str]) -> TracerProvider:
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    if "otlp" in names:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        _check_protocol(environment, "TRACES")
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    if "console" in names:
        provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))
    return provider


def _check_protocol(environment: Mapping[str, str], signal: str) -> None:
    for variable in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if environment.get(variable, "http/protobuf") != "http/protobuf":
            raise ConfigurationError(
                f"{variable}: only http/protobuf is spoken here; a collector takes it at port 4318"
            )


def _prometheus() -> tuple[MetricReader, CollectorRegistry]:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader

    registry = CollectorRegistry()
    return PrometheusMetricReader(scope_info_enabled=False, registry=registry), registry


def _serve(environment: Mapping[str, str], registry: CollectorRegistry) -> Callable[[], object]:
    """Serve measurements to Prometheus; gives what ends that."""
    host, port = environment.get(f"{_PROMETHEUS}_HOST", "localhost"), environment.get(f"{_PROMETHEUS}_PORT", "9464")
    try:
        server, _ = start_http_server(int(port), host, registry)
    except (ValueError, OverflowError):
        raise ConfigurationError(f"{_PROMETHEUS}_PORT: not a port") from None
    except OSError as error:
        raise ConfigurationError(f"{_PROMETHEUS}_PORT: cannot listen on {host}:{port} ({error.strerror})") from None
    log.info("metrics at http://%s:%d/metrics", host, server.server_port)

    def end() -> None:
        server.shutdown()
        server.server_close()

    return end


def _resource(environment: Mapping[str, str], service: str) -> Resource:
    named = "OTEL_SERVICE_NAME" in environment or "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create({} if named else {SERVICE_NAME: service})


def _close(shutdowns: Sequence[Callable[[], object]], close_s: float) -> None:
    """Export a last time."""
    closing = [threading.Thread(target=shutdown, name="telemetry", daemon=True) for shutdown in shutdowns]
    for thread in closing:
        thread.start()
    deadline = time.monotonic() + close_s
    for thread in closing:
        thread.join(max(0.0, deadline - time.monotonic()))
    if any(thread.is_alive() for thread in closing):
        log.info("the last measurements were not exported: the collector does not answer")

"""A service with an OpenTelemetry SDK of its own, as a process, because an SDK is set up once in a process.

`python -m tests.integration.telemetry_service MODE` says what it has done as JSON on standard output. Where it
exports to is said by OpenTelemetry's own variables.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider, sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import CollectorRegistry, generate_latest

from tests.integration.direct_world import Aside
from tests.integration.flusher_entities import Counter
from tests.integration.producer_world import Player, Visit
from writebehind.producer import AsyncClient, Client, PartlyFailed, Settings, WritebehindError, load_settings

DEAD = "127.0.0.1:1"
QUICK = {"timeout_s": 1.0, "broker_down_after_s": 0.1, "max_in_flight": 3, "close_timeout_s": 0.2}


@contextmanager
def exporting(sampler: sampling.Sampler = sampling.ALWAYS_ON) -> Iterator[TracerProvider]:
    """Traces and metrics by OTLP."""
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], shutdown_on_exit=False)
    metrics.set_meter_provider(meters)
    yield provider


def traced() -> dict[str, Any]:
    """Writes within a span that is sampled, within one that is not, and outside any; asynchronous and synchronous."""

    async def asynchronously() -> str:
        async with AsyncClient.open() as client:
            await client.update(Counter, 1, note="outside")
            with tracer.start_as_current_span("request") as span:
                await client.update(Counter, 2, note="inside")
                await client.update_many(Counter, [(key, {"note": "inside"}) for key in range(3, 9)])
                await client.add(Counter, 3, hits=1, wait="enqueued")
            return trace.format_trace_id(span.get_span_context().trace_id)

    def synchronously() -> str:
        with Client.open() as client, tracer.start_as_current_span("request") as span:
            client.update(Counter, 9, note="inside")
            return trace.format_trace_id(span.get_span_context().trace_id)

    def unsampled() -> None:
        unsampling = TracerProvider(sampler=sampling.ALWAYS_OFF).get_tracer("service")
        with Client.open() as client, unsampling.start_as_current_span("request"):
            client.update(Counter, 10, note="outside")

    with exporting() as provider:
        tracer = provider.get_tracer("service")
        ids = [asyncio.run(asynchronously()), synchronously()]
        unsampled()
        provider.force_flush()
    return {"traces": ids}


def abandoned() -> dict[str, Any]:
    """Many writes, all of them traced, while the collector never answers. Says how many were acknowledged."""
    with exporting() as provider:
        tracer = provider.get_tracer("service")
        with Client.open() as client:
            for key in range(2_500):  # more spans than wait for their export
                with tracer.start_as_current_span("request"):
                    client.update(Counter, key % 50, hits=1, wait="acknowledged" if key % 50 == 0 else "enqueued")
            report = client.close()
        return {"clean": report.clean}


def loaded() -> dict[str, Any]:
    """Every outcome of a write on many keys; what Prometheus would be told in the middle of it, and afterwards."""
    registry = CollectorRegistry()
    reader: MetricReader = PrometheusMetricReader(scope_info_enabled=False, registry=registry)
    metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
    settings = load_settings()
    with Client.open(settings) as client:
        patches = [(number, {"name": f"name {number}", "score": 1}) for number in range(300)]
        client.update_many(Player, patches, wait="enqueued")
        client.update(Player, 1, small=32_000)
        _fails(lambda: client.add(Player, 1, small=32_000))
        _fails(lambda: client.update_many(Player, [(1, {"small": 32_000}), (2, {"small": 1})]))
        client.create(Aside, 1, name="a")
        _fails(lambda: client.create(Aside, 1, name="a"))
        with client.transaction() as connection:
            client.update(Aside, 1, name="b", connection=connection)
    with Client.open(_with(settings, "cache", url=f"redis://{DEAD}/0")) as client:
        for number in range(10):
            client.update(Player, number, name="without the cache")
        without_cache = generate_latest(registry).decode()
    with Client.open(_with(_with(settings, "producer", **QUICK), "kafka", bootstrap_servers=DEAD)) as client:
        _fails(lambda: client.update(Player, 1, name="unknown"))
        for _ in range(2):
            client.update(Player, 1, name="enqueued", wait="enqueued")
        time.sleep(QUICK["broker_down_after_s"])
        _fails(lambda: client.update(Player, 1, name="no room"))
        _fails(lambda: client.update(Visit, ("a", "b"), views=1))
        without_broker = generate_latest(registry).decode()
    return {"texts": [without_cache, without_broker, generate_latest(registry).decode()]}


def _with(settings: Settings, group: str, **values: Any) -> Settings:
    part = getattr(settings, group)
    changed = type(part).model_validate({**part.model_dump(by_alias=True), **values})
    return settings.model_copy(update={group: changed})


def _fails(call: Any) -> None:
    try:
        call()
    except (WritebehindError, PartlyFailed):
        return
    raise AssertionError("the write was to fail")


if __name__ == "__main__":
    print(json.dumps({"traced": traced, "loaded": loaded, "abandoned": abandoned}[sys.argv[1]]()), flush=True)
    os._exit(0)  # the SDK would go on trying a collector that does not answer

"""A service that writes as fast as it can: `python -m tests.benchmarks.telemetry_process update 10000 on`.

It writes within requests. Unless telemetry is off it has an OpenTelemetry SDK, and each request is a span, of which the
given share is sampled. With `service` the producer sees neither the spans nor the SDK's metrics. It prints the
acknowledged writes per second and the CPU seconds of one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest import mock

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from writebehind.producer import AsyncClient
from writebehind.producer._async import client as client_module

from .bench_produce import CHUNK, CHUNKS_IN_FLIGHT, TASKS, patch
from .entities import BenchUpdate

CALLS_PER_REQUEST = 50
Request = Callable[[], AbstractContextManager[Any]]


def with_sdk(sampled: float, *, ours: bool = True) -> tuple[Request, Callable[[], None]]:
    """Set an SDK up; gives what a request is, and what shuts the SDK down."""
    spans = TracerProvider(sampler=ParentBased(TraceIdRatioBased(sampled)))
    spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(spans)
    meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())])
    if ours:
        metrics.set_meter_provider(meters)
    else:
        mock.patch.object(client_module, "span_of", _unseen).start()
    tracer = spans.get_tracer("service")
    # A process exports for the first time once: that is not what a write costs.
    for _ in range(int(2 / sampled)):
        tracer.start_span("warm").end()
    spans.force_flush()
    meters.force_flush()

    def shut_down() -> None:
        spans.shutdown()
        meters.shutdown()

    return lambda: tracer.start_as_current_span("request"), shut_down


def _unseen(_writes: object) -> None:
    """In the place of `span_of`."""


async def write(call: str, writes: int, request: Request) -> tuple[float, float]:
    """Carry the writes out in as many tasks as `make bench-produce` does."""
    starts = iter(range(0, writes, CHUNK if call == "update_many" else 1))
    async with AsyncClient.open() as client:
        await client.update(BenchUpdate, 0, **patch(0))

        async def one(start: int) -> None:
            if call == "update_many":
                await client.update_many(BenchUpdate, [(n, patch(n)) for n in range(start, start + CHUNK)])
            else:
                await client.update(BenchUpdate, start, **patch(start))

        async def work(starts: Iterator[int]) -> None:
            left = True
            while left:
                with request():
                    for _ in range(CALLS_PER_REQUEST):
                        left = False
                        for start in starts:
                            await one(start)
                            left = True
                            break

        began, cpu_began = time.perf_counter(), time.process_time()
        await asyncio.gather(*[work(starts) for _ in range(CHUNKS_IN_FLIGHT if call == "update_many" else TASKS)])
        took_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    return writes / took_s, cpu_s / writes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("call", choices=["update", "update_many"])
    parser.add_argument("writes", type=int)
    parser.add_argument("telemetry", choices=["off", "service", "on"])
    parser.add_argument("--sampled", type=float, default=0.01, metavar="SHARE")
    args = parser.parse_args()
    request: Request = nullcontext
    if args.telemetry != "off":
        request, _ = with_sdk(args.sampled, ours=args.telemetry == "on")
    print(json.dumps(asyncio.run(write(args.call, args.writes, request))), flush=True)
    os._exit(0)  # without a last export


if __name__ == "__main__":
    sys.exit(main())

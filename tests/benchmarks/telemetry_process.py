"""A service that writes as fast as it can: `python -m tests.benchmarks.telemetry_process update 40000 15`.

It writes within requests, in three modes by turns, all in this process, so that what differs is the mode alone: `off`
has no telemetry; in `service` each request is a span of an OpenTelemetry SDK, of which the given share is sampled, and
the producer sees neither the spans nor the SDK's metrics; with `on` it does. What a turn made is exported before it
ends, which is more often than by a service that exports every few seconds. It prints, for each mode and round, the
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
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from typing import Any, Literal
from unittest import mock

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import NoOpMeter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from writebehind.producer import AsyncClient
from writebehind.producer._async import client as client_module
from writebehind.producer.measures import of_process

from .bench_produce import CHUNK, CHUNKS_IN_FLIGHT, TASKS, patch
from .entities import BenchUpdate

CALLS_PER_REQUEST = 50
WARM_UP_ROUNDS = 2
Mode = Literal["off", "service", "on"]
MODES: tuple[Mode, ...] = ("off", "service", "on")
Request = Callable[[], AbstractContextManager[Any]]
Cost = tuple[float, float]  # per second, and CPU seconds of one


class Sdk:
    """The process's SDK, which exports to where the `OTEL_` variables say."""

    def __init__(self, sampled: float) -> None:
        self._spans = TracerProvider(sampler=ParentBased(TraceIdRatioBased(sampled)))
        self._spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())])
        trace.set_tracer_provider(self._spans)
        metrics.set_meter_provider(self._meters)
        self._tracer = self._spans.get_tracer("service")
        # A process exports for the first time once: that is not what a write costs.
        for _ in range(int(2 / sampled)):
            self._tracer.start_span("warm").end()
        self.export()

    def request(self) -> AbstractContextManager[Any]:
        """A request of the service's, as a span."""
        return self._tracer.start_as_current_span("request")

    def export(self, *, measures: bool = True) -> None:
        """Export what there is, and wait for it."""
        self._spans.force_flush()
        if measures:
            self._meters.force_flush()

    def shut_down(self) -> None:
        self._spans.shutdown()
        self._meters.shutdown()


def _no_span(_writes: object) -> None:
    """In the place of `span_of`. A mock would keep a list of its calls, and take longer than a write."""


@contextmanager
def unseen() -> Iterator[None]:
    """Let the producer see nothing of the SDK."""
    nothing = NoOpMeter("off").create_histogram("off")
    with (
        mock.patch.object(client_module, "span_of", _no_span),
        mock.patch.multiple(of_process(), _write_duration=nothing, _send_duration=nothing),
    ):
        yield


async def turn(client: AsyncClient, call: str, writes: int, mode: Mode, sdk: Sdk) -> Cost:
    """Carry the writes out in one mode."""
    request = nullcontext if mode == "off" else sdk.request
    with nullcontext() if mode == "on" else unseen():
        began, cpu_began = time.perf_counter(), time.process_time()
        await write(client, call, writes, request)
        if mode != "off":
            sdk.export(measures=mode == "on")
        return writes / (time.perf_counter() - began), (time.process_time() - cpu_began) / writes


async def write(client: AsyncClient, call: str, writes: int, request: Request) -> None:
    """Carry the writes out within requests, in as many tasks as `make bench-produce` does."""
    starts = iter(range(0, writes, CHUNK if call == "update_many" else 1))

    async def one(start: int) -> None:
        if call == "update_many":
            await client.update_many(BenchUpdate, [(n, patch(n)) for n in range(start, start + CHUNK)])
        else:
            await client.update(BenchUpdate, start, **patch(start))

    async def work() -> None:
        for first in starts:
            with request():
                await one(first)
                for start in islice(starts, CALLS_PER_REQUEST - 1):
                    await one(start)

    await asyncio.gather(*[work() for _ in range(CHUNKS_IN_FLIGHT if call == "update_many" else TASKS)])


async def by_turns(call: str, writes: int, rounds: int, sdk: Sdk) -> dict[Mode, list[Cost]]:
    """Each mode once in a round; another one is first in each."""
    found: dict[Mode, list[Cost]] = {mode: [] for mode in MODES}
    async with AsyncClient.open() as client:
        for number in range(WARM_UP_ROUNDS + rounds):
            first = number % len(MODES)
            for mode in MODES[first:] + MODES[:first]:
                cost = await turn(client, call, writes, mode, sdk)
                if number >= WARM_UP_ROUNDS:
                    found[mode].append(cost)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("call", choices=["update", "update_many"])
    parser.add_argument("writes", type=int)
    parser.add_argument("rounds", type=int)
    parser.add_argument("--sampled", type=float, default=0.01, metavar="SHARE")
    args = parser.parse_args()
    print(json.dumps(asyncio.run(by_turns(args.call, args.writes, args.rounds, Sdk(args.sampled)))), flush=True)
    os._exit(0)  # without a last export


if __name__ == "__main__":
    sys.exit(main())

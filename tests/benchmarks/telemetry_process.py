"""A service that writes as fast as it can: `python -m tests.benchmarks.telemetry_process update 5000 400`.

It writes within requests, in three modes by turns, all in this process, so that what differs is the mode alone: `off`
has no telemetry; in `service` each request is a span of an OpenTelemetry SDK, of which the given share is sampled, and
the producer sees neither the spans nor the SDK's metrics; with `on` it does. A turn is a fraction of a second, because
the machine's speed changes within seconds by more than telemetry costs. What a mode's turns made is exported as often
as by a service that does so every few seconds, and that time is told with them. It prints, for each mode and round,
the seconds and the CPU seconds of one write.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
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

from writebehind.producer import AsyncClient, tracing
from writebehind.producer._async import client as client_module
from writebehind.producer.measures import of_process

from .bench_produce import CHUNK, CHUNKS_IN_FLIGHT, TASKS, patch
from .entities import BenchUpdate

CALLS_PER_REQUEST = 50  # at most: a turn of 5,000 updates in 256 tasks is over after 20
WARM_UP_ROUNDS = 6
ROUNDS_PER_EXPORT = 25  # of turns of some 0.2 s: every 5 s of a mode's time, as exporters do by default or less often
Mode = Literal["off", "service", "on"]
MODES: tuple[Mode, ...] = ("off", "service", "on")
Request = Callable[[], AbstractContextManager[Any]]
Cost = tuple[float, float]  # seconds and CPU seconds of one


class Sdk:
    """One that exports to where the `OTEL_` variables say. `ours`: the producer finds it."""

    def __init__(self, sampled: float, *, ours: bool) -> None:
        self._spans = TracerProvider(sampler=ParentBased(TraceIdRatioBased(sampled)))
        self._spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._spans.get_tracer("service")
        self._meters = None
        if ours:
            self._meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())])
            trace.set_tracer_provider(self._spans)
            metrics.set_meter_provider(self._meters)
        # A process exports for the first time once: that is not what a write costs.
        for _ in range(int(2 / sampled)):
            self._tracer.start_span("warm").end()
        self.export()

    def request(self) -> AbstractContextManager[Any]:
        """A request of the service's, as a span."""
        return self._tracer.start_as_current_span("request")

    def export(self) -> None:
        """Export what there is, and wait for it."""
        self._spans.force_flush()
        if self._meters is not None:
            self._meters.force_flush()

    def shut_down(self) -> None:
        self._spans.shutdown()
        if self._meters is not None:
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


class Clock:
    """Time and CPU time from now on, shared out among so many."""

    def __init__(self) -> None:
        self._began, self._cpu_began = time.perf_counter(), time.process_time()

    def of(self, count: int) -> Cost:
        return (time.perf_counter() - self._began) / count, (time.process_time() - self._cpu_began) / count


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


async def by_turns(call: str, writes: int, rounds: int, sampled: float) -> dict[Mode, list[Cost]]:
    """Each mode once in a round, in random order."""
    sdks = {"service": Sdk(sampled, ours=False), "on": Sdk(sampled, ours=True)}
    turns: dict[Mode, list[Cost]] = {mode: [] for mode in MODES}
    exports: dict[Mode, list[Cost]] = {mode: [] for mode in MODES}
    async with AsyncClient.open() as client:
        for number in range(-WARM_UP_ROUNDS, rounds):  # of the warm-up is the first export
            for mode in random.sample(MODES, len(MODES)):
                sdk = sdks.get(mode)
                with nullcontext() if mode == "on" else unseen():
                    clock = Clock()
                    await write(client, call, writes, nullcontext if sdk is None else sdk.request)
                    cost = clock.of(writes)
                if number >= 0:
                    turns[mode].append(cost)
                if sdk is not None and number % ROUNDS_PER_EXPORT == ROUNDS_PER_EXPORT - 1:
                    clock = Clock()
                    sdk.export()
                    exports[mode].append(clock.of(ROUNDS_PER_EXPORT * writes))
    return {mode: [plus(cost, exports[mode][1:]) for cost in turns[mode]] for mode in MODES}


def plus(turn: Cost, exports: Sequence[Cost]) -> Cost:
    """The cost of a write in this turn with its part of an export."""
    exported, cpu = (statistics.median(each) for each in zip(*exports, strict=True)) if exports else (0.0, 0.0)
    return turn[0] + exported, turn[1] + cpu


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("call", choices=["update", "update_many"])
    parser.add_argument("writes", type=int, help="in a turn")
    parser.add_argument("rounds", type=int)
    parser.add_argument("--sampled", type=float, default=0.01, metavar="SHARE")
    args = parser.parse_args()
    # The process's ration of spans is by the second, of which the mode that takes them has a part.
    with mock.patch.object(tracing, "_RATION", tracing._Ration(tracing.SPANS_PER_S // len(MODES))):
        print(json.dumps(asyncio.run(by_turns(args.call, args.writes, args.rounds, args.sampled))), flush=True)
    os._exit(0)  # without a last export


if __name__ == "__main__":
    sys.exit(main())

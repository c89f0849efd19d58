"""What telemetry costs: `make bench-telemetry`.

Flusher and producer as processes of their own, without and with telemetry in turn, on the same servers. With it means:
all metrics and traces go by OTLP to a collector, every 5 s; of the requests in which the service writes, `--sampled`
are sampled, and the records of those carry their trace. Each ratio is throughput with / without, the median of
runs that stand side by side; the `cpu` ones are CPU time without / with, which a busy machine disturbs less. `ours` is
the same against a service that has its SDK and the spans of its requests, of which the producer knows nothing.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

from writebehind.embedded import Stack
from writebehind.flusher.migrate import migrate
from writebehind.shared import telemetry
from writebehind.shared.registry import load as load_entities
from writebehind.shared.settings import load_settings

from . import raw
from .bench_flush import overrides
from .entities import BenchTraced
from .flusher_process import DEADLINE_S, ROOT, flush, reset_progress
from .load import Headers, Load, create_topic, loads, prefill_cache, prefill_kafka
from .world import arguments, speaker

OFF = {"OTEL_SDK_DISABLED": "true"}
Mode = Literal["off", "service", "on"]
Cost = tuple[float, float]  # per second, and CPU seconds of one


def main() -> int:
    args = arguments(
        __doc__,
        records=(int, 300_000, "records per flush"),
        writes=(int, 150_000, "writes per measurement of the producer"),
        rounds=(int, 7, "rounds of each mode once; medians are reported"),
        sampled=(float, 0.01, "share of the requests that is sampled"),
    )
    if args.quick:
        args.records, args.writes, args.rounds = 30_000, 5_000, 1
    with Stack(kafka_jit="full") as stack, collector() as endpoint:
        bench = Bench(stack, endpoint, args.records, args.writes, args.sampled, speaker(args))
        flushed = turns(args.rounds, bench.flush, ("off", "on"))
        many = turns(args.rounds, bench.update_many, ("off", "service", "on"))
        single = turns(args.rounds, bench.update, ("off", "service", "on"))
    found = {"flush": ratios(flushed, "off"), "update_many": ratios(many, "off"), "update": ratios(single, "off")}
    result = {
        "flush_ratio": found["flush"][0],
        "produce_ratio": min(found["update_many"][0], found["update"][0]),
        "update_many_ratio": found["update_many"][0],
        "update_ratio": found["update"][0],
        "update_many_ours_ratio": ratios(many, "service")[0],
        "update_ours_ratio": ratios(single, "service")[0],
        "flush_cpu_ratio": found["flush"][1],
        "update_many_cpu_ratio": found["update_many"][1],
        "update_cpu_ratio": found["update"][1],
    }
    print(json.dumps({name: round(ratio, 3) for name, ratio in result.items()}))
    return 0


def turns(rounds: int, measure: Callable[[Mode], Cost], modes: Sequence[Mode]) -> dict[Mode, list[Cost]]:
    """Each mode once in a round; the order is turned round from one to the next."""
    found: dict[Mode, list[Cost]] = {mode: [] for mode in modes}
    for number in range(rounds):
        for mode in modes if number % 2 == 0 else reversed(modes):
            found[mode].append(measure(mode))
    return found


def ratios(found: dict[Mode, list[Cost]], base: Mode) -> Cost:
    """Medians of throughput with / in the base, and of CPU time in the base / with."""
    both = list(zip(found[base], found["on"], strict=True))
    return statistics.median(on[0] / off[0] for off, on in both), statistics.median(off[1] / on[1] for off, on in both)


class Bench:
    """Servers with two equal loads; the records of one of them carry traces."""

    def __init__(
        self, stack: Stack, endpoint: str, records: int, writes: int, sampled: float, say: Callable[[str], None]
    ) -> None:
        self._sampled = sampled
        self._env, self._url = stack.env(), stack.postgres.url
        self._on = exporting(endpoint)
        self._writes = writes
        self._say = say
        plain = next(load for load in loads(records) if load.name == "update")
        self._loads = {False: plain, True: replace(plain, name="traced", cls=BenchTraced)}
        for load in self._loads.values():
            create_topic(stack.kafka.bootstrap_servers, load.topic)
            raw.prepare_table(load, self._url)
        migrate(load_settings(**overrides(self._env)), load_entities(["tests.benchmarks.entities"]))
        for traced, load in self._loads.items():
            say(f"prefilling {load.name}: {records:,} records")
            prefill_kafka(load, stack.kafka.bootstrap_servers, traces(sampled) if traced else None)
            prefill_cache(load, stack.valkey.url)

    def flush(self, mode: Mode) -> Cost:
        load: Load = self._loads[mode == "on"]
        raw.prepare_table(load, self._url)
        reset_progress(load, self._url)
        run = flush(load, {**self._env, **(self._on if mode == "on" else OFF)}, self._url)
        return self._told("flush", mode, run.records_per_s, run.cpu_us_per_record / 1e6)

    def update_many(self, mode: Mode) -> Cost:
        return self._produce("update_many", mode)

    def update(self, mode: Mode) -> Cost:
        return self._produce("update", mode)

    def _produce(self, call: str, mode: Mode) -> Cost:
        command = [sys.executable, "-m", "tests.benchmarks.telemetry_process", call, str(self._writes), mode]
        command += ["--sampled", str(self._sampled)]
        env = {**os.environ, **self._env, "WRITEBEHIND_CACHE__TIMEOUT_S": "5", **({} if mode == "off" else self._on)}
        done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, check=True, timeout=DEADLINE_S)
        return self._told(call, mode, *json.loads(done.stdout))

    def _told(self, what: str, mode: Mode, per_s: float, cpu_s: float) -> Cost:
        self._say(f"{what}, telemetry {mode}: {per_s:,.0f}/s, {cpu_s * 1e6:.2f} µs CPU each")
        return per_s, cpu_s


def traces(sampled: float) -> Iterator[Headers | None]:
    """The headers of records one after the other, some of which were written within a sampled span."""
    chance = random.Random(20130101)
    for _ in itertools.count():
        ids = f"{chance.getrandbits(128) | 1:032x}-{chance.getrandbits(64) | 1:016x}"
        yield [(telemetry.TRACEPARENT, f"00-{ids}-01".encode())] if chance.random() < sampled else None


def exporting(endpoint: str) -> dict[str, str]:
    """The variables of a process that exports all it has to a collector."""
    return {
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRIC_EXPORT_INTERVAL": "5000",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
    }


@contextmanager
def collector() -> Iterator[str]:
    """A process that takes whatever is posted to it. Gives its address."""
    command = [sys.executable, "-m", "tests.benchmarks.telemetry_collector"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


if __name__ == "__main__":
    sys.exit(main())

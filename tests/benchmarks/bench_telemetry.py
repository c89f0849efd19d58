"""What telemetry costs: `make bench-telemetry`.

With it means: all metrics and traces go by OTLP to a collector; of the requests in which the service writes,
`--sampled` are sampled, and the records of those carry their trace. Flushers are processes of their own, without and
with it in turn, on the same servers. The producer is measured within one process (`telemetry_process.py`):
`update_ratio` and `update_many_ratio` compare it with a service that has its SDK and the spans of its requests, of
which the producer knows nothing; the `service` ones with a service that has no telemetry either, so that they hold
what its own spans cost. Each ratio is throughput with / without, the median of runs that stand side by side; the `cpu`
ones are CPU time without / with, which a busy machine disturbs less. Beside each, on standard error, are the bounds
within which nine of ten medians lie when runs are drawn from those measured.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

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
from .telemetry_process import Cost, Mode
from .world import arguments, speaker

OFF = {"OTEL_SDK_DISABLED": "true"}
AT_THE_END_OF_A_TURN = {"OTEL_METRIC_EXPORT_INTERVAL": "3600000", "OTEL_BSP_SCHEDULE_DELAY": "3600000"}
Found = Mapping[Mode, Sequence[Cost]]


def main() -> int:
    args = arguments(
        __doc__,
        records=(int, 300_000, "records per flush"),
        flushes=(int, 15, "flushes of each mode; medians are reported"),
        writes=(int, 5_000, "writes per measurement of update; of update_many it is four times as many"),
        rounds=(int, 400, "measurements of update in each mode, of update_many half as many; medians are reported"),
        sampled=(float, 0.01, "share of the requests that is sampled"),
    )
    if args.quick:
        args.records, args.flushes, args.rounds = 30_000, 1, 2
    say = speaker(args)
    with Stack(kafka_jit="full") as stack, collector() as endpoint:
        bench = Bench(stack, endpoint, args.records, args.sampled, say)
        flush = bench.flushes(args.flushes)
        many = bench.produce("update_many", 4 * args.writes, args.rounds // 2)
        single = bench.produce("update", args.writes, args.rounds)
    found = {
        "flush": ratios(flush, "off"),
        "update_many": ratios(many, "service"),
        "update": ratios(single, "service"),
        "service_update_many": ratios(many, "off"),
        "service_update": ratios(single, "off"),
    }
    for name, (ratio, _) in found.items():
        say(f"{name}: {ratio}")
    ours = min(found[name][0].median for name in ("update_many", "update"))
    result = {"flush_ratio": found["flush"][0].median, "produce_ratio": ours}
    result |= {f"{name}_ratio": ratio.median for name, (ratio, _) in found.items()}
    result |= {f"{name}_cpu_ratio": cpu.median for name, (_, cpu) in found.items()}
    print(json.dumps({name: round(ratio, 3) for name, ratio in result.items()}))
    return 0


@dataclass(frozen=True, slots=True)
class Ratio:
    """A median, and where nine of ten of those lie that are drawn again from what it is of."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"

    @classmethod
    def of(cls, found: Sequence[float]) -> Ratio:
        chance = random.Random(20130101)
        drawn = sorted(statistics.median(chance.choices(found, k=len(found))) for _ in range(1_000))
        return cls(statistics.median(found), drawn[50], drawn[949])


def ratios(found: Found, base: Mode) -> tuple[Ratio, Ratio]:
    """Of throughput with / in the base, and of CPU time in the base / with."""
    both = list(zip(found[base], found["on"], strict=True))
    return Ratio.of([off[0] / on[0] for off, on in both]), Ratio.of([off[1] / on[1] for off, on in both])


class Bench:
    """Servers with two equal loads; the records of one of them carry traces."""

    def __init__(self, stack: Stack, endpoint: str, records: int, sampled: float, say: Callable[[str], None]) -> None:
        self._sampled = sampled
        self._env, self._url = stack.env(), stack.postgres.url
        self._on = exporting(endpoint)
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

    def flushes(self, rounds: int) -> Found:
        """Each mode once in a round; the order is turned round from one to the next."""
        found: dict[Mode, list[Cost]] = {"off": [], "on": []}
        for number in range(rounds):
            for mode in list(found)[:: 1 if number % 2 == 0 else -1]:
                found[mode].append(self._flush(mode))
        return found

    def _flush(self, mode: Mode) -> Cost:
        load: Load = self._loads[mode == "on"]
        raw.prepare_table(load, self._url)
        reset_progress(load, self._url)
        run = flush(load, {**self._env, **(self._on if mode == "on" else OFF)}, self._url)
        cost = 1 / run.records_per_s, run.cpu_us_per_record / 1e6
        self._tell("flush", mode, cost)
        return cost

    def produce(self, call: str, writes: int, rounds: int) -> Found:
        """A service in a process of its own, each mode once in a round."""
        command = [sys.executable, "-m", "tests.benchmarks.telemetry_process", call, str(writes), str(rounds)]
        command += ["--sampled", str(self._sampled)]
        env = {**os.environ, **self._env, "WRITEBEHIND_CACHE__TIMEOUT_S": "5", **self._on, **AT_THE_END_OF_A_TURN}
        done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, check=True, timeout=10 * DEADLINE_S)
        found: Found = json.loads(done.stdout)
        for mode, costs in found.items():
            took_s, cpu_s = (statistics.median(each) for each in zip(*costs, strict=True))
            self._tell(call, mode, (took_s, cpu_s))
        return found

    def _tell(self, what: str, mode: Mode, cost: Cost) -> None:
        self._say(f"{what}, telemetry {mode}: {1 / cost[0]:,.0f}/s, {cost[1] * 1e6:.2f} µs CPU each")


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

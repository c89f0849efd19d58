"""How close the flusher comes to what Postgres and Kafka can do here: `make bench-flush`.

Each ratio compares, in one run on the same servers, the flusher as its own process with the raw limit: the same guarded
statement from ready arrays by one psycopg connection at its best batch size, or a bare `consume()` for the hot keys.
The cache holds a pending entry for each key, which the flusher settles on the same processors; for the `alone` ratios
it holds nothing. The raw limit pays neither for the broker nor for the cache; the `to_bare` ratios compare with what
does, and does nothing else (`bare.py`): about the most that this machine's processors allow.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import redis

from writebehind.embedded import Stack
from writebehind.shared.registry import load as load_entities
from writebehind.shared.settings import load_settings

from . import raw
from .bare import pipeline
from .flusher_process import Run, flush, reset_progress
from .load import Load, create_topic, loads, prefill_cache, prefill_kafka
from .world import speaker

BATCHES = (10_000, 20_000, 40_000)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=500_000, help="records per load (default 500,000)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="raw and flusher in turn; medians are reported (default 3)"
    )
    parser.add_argument(
        "--connections", type=int, nargs="*", default=[1, 2, 4], help="connections tried for parallel updates"
    )
    parser.add_argument("--quick", action="store_true", help="50,000 records, one round")
    parser.add_argument("--json", action="store_true", help="print the JSON line only")
    args = parser.parse_args()
    if args.quick:
        args.records, args.rounds = 50_000, 1
    with Stack(kafka_jit="full") as stack:
        print(json.dumps(Bench(stack, args.records, args.rounds, speaker(args)).run(args.connections)))
    return 0


@dataclass(frozen=True)
class Rounds:
    """What was measured by turns: limits by the rows of a batch, and runs of the flusher."""

    limits: list[dict[int, float]] = field(default_factory=list)
    bare: list[dict[int, float]] = field(default_factory=list)
    alone: list[Run] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    @property
    def run(self) -> Run:
        """The median one."""
        return sorted(self.runs, key=lambda run: run.records_per_s)[len(self.runs) // 2]


def ratio(runs: Sequence[Run], limits: Sequence[Mapping[int, float]]) -> float:
    """Median ratio of the flusher to the limit.

    The limit is that of the batch size with the best median: the best run of all sizes would be the luckiest one.
    """
    best = max(limits[0], key=lambda size: statistics.median(rates[size] for rates in limits))
    found = statistics.median(run.records_per_s / rates[best] for run, rates in zip(runs, limits, strict=True))
    return round(found, 2)


class Bench:
    def __init__(self, stack: Stack, records: int, rounds: int, say: Callable[[str], None]) -> None:
        self._env = stack.env()
        self._url = stack.postgres.url
        self._kafka = stack.kafka.bootstrap_servers
        self._cache = stack.valkey.url
        self._rounds = rounds
        self._say = say
        self._loads = {load.name: load for load in loads(records)}

    def run(self, connections: list[int]) -> dict[str, object]:
        self._prepare()
        insert, update, hot = (self._loads[name] for name in ("insert", "update", "hot"))
        inserted = self._rounds_of(insert, lambda: self._guarded(insert), settling=True)
        updated = self._rounds_of(update, lambda: self._guarded(update), settling=True)
        row_level = self._rounds_of(
            update, lambda: {rows: raw.bare_row_level(update, self._url, batch_rows=rows) for rows in BATCHES}
        )
        hot_ones = self._rounds_of(hot, lambda: {0: raw.consume(hot, self._kafka)})
        parallel = {count: self._parallel(update, count) for count in connections}
        best = max(parallel, key=lambda count: parallel[count][1])
        return {
            "insert_ratio": ratio(inserted.runs, inserted.limits),
            "update_ratio": ratio(updated.runs, updated.limits),
            "insert_alone_ratio": ratio(inserted.alone, inserted.limits),
            "update_alone_ratio": ratio(updated.alone, updated.limits),
            "insert_ratio_to_bare": ratio(inserted.runs, inserted.bare),
            "update_ratio_to_bare": ratio(updated.runs, updated.bare),
            "bare_row_update_ratio": ratio(row_level.runs, row_level.limits),
            "parallel_update_ratio": round(parallel[best][0], 2),
            "parallel_best_connections": best,
            "insert_rows_per_s": round(inserted.run.records_per_s),
            "update_rows_per_s": round(updated.run.records_per_s),
            "hot_messages_per_s": round(hot_ones.run.records_per_s),
            "hot_ratio_to_consume": ratio(hot_ones.runs, hot_ones.limits),
            "flusher_cpu_us_per_row": round(updated.run.cpu_us_per_record, 2),
            "rss_mib": round(max(found.run.rss_mib for found in (inserted, updated, hot_ones))),
        }

    def _prepare(self) -> None:
        from writebehind.flusher.migrate import migrate

        registry = load_entities(["tests.benchmarks.entities"])
        for load in self._loads.values():
            create_topic(self._kafka, load.topic)
            raw.prepare_table(load, self._url)
        migrate(load_settings(**overrides(self._env)), registry)
        for load in self._loads.values():
            self._say(f"prefilling {load.name}: {len(load.keys):,} records")
            prefill_kafka(load, self._kafka)

    def _guarded(self, load: Load, connections: int = 1) -> dict[int, float]:
        """The raw limit by the rows of a batch."""
        rates: dict[int, float] = {}
        for rows in BATCHES:
            raw.prepare_table(load, self._url)
            rates[rows] = raw.guarded(load, self._url, batch_rows=rows, connections=connections)
        return rates

    def _flush(self, load: Load, connections: int = 1) -> Run:
        raw.prepare_table(load, self._url)
        reset_progress(load, self._url)
        return flush(load, self._env, self._url, connections=connections)

    def _rounds_of(self, load: Load, limit: Callable[[], dict[int, float]], *, settling: bool = False) -> Rounds:
        """Limit and flusher by turns. settling: also without entries to settle, and the bare pipeline with them."""
        found = Rounds()
        for _ in range(self._rounds):
            found.limits.append(limit())
            said = f"{load.name}: limit {_rates(found.limits[-1])}"
            if settling:
                self._entries([])
                found.alone.append(self._flush(load))
                found.bare.append(self._bare(load))
                said += f"; with nothing in the cache {found.alone[-1]}; bare pipeline {_rates(found.bare[-1])}"
            self._entries([load])
            found.runs.append(self._flush(load))
            self._say(f"{said}; flusher {found.runs[-1]}")
        return found

    def _bare(self, load: Load) -> dict[int, float]:
        rates: dict[int, float] = {}
        for rows in BATCHES:
            raw.prepare_table(load, self._url)
            self._entries([load])
            rates[rows] = pipeline(load, self._kafka, self._url, self._cache, batch_rows=rows)
        return rates

    def _entries(self, of: list[Load]) -> None:
        """Let the cache hold the pending entries of these loads and nothing else."""
        with redis.Redis.from_url(self._cache) as cache:
            cache.flushall()
        for load in of:
            prefill_cache(load, self._cache)

    def _parallel(self, load: Load, connections: int) -> tuple[float, float]:
        bound = max(self._guarded(load, connections).values())
        self._entries([load])
        run = self._flush(load, connections)
        self._say(
            f"{connections} connections: limit {bound:,.0f}/s, flusher {run.records_per_s:,.0f}/s, "
            f"ratio {run.records_per_s / bound:.2f}"
        )
        return run.records_per_s / bound, run.records_per_s


def _rates(rates: Mapping[int, float]) -> str:
    return ", ".join(f"{rate:,.0f}" for rate in rates.values()) + "/s"


def overrides(env: dict[str, str]) -> dict[str, object]:
    return {
        "kafka": {"bootstrap_servers": env["WRITEBEHIND_KAFKA__BOOTSTRAP_SERVERS"]},
        "database": {"url": env["WRITEBEHIND_DATABASE__URL"]},
        "cache": {"url": env["WRITEBEHIND_CACHE__URL"]},
    }


if __name__ == "__main__":
    sys.exit(main())

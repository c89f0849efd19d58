"""How close the flusher comes to what Postgres and Kafka can do here: `make bench-flush`.

Each ratio compares, in one run on the same servers, the flusher as its own process with the raw limit: the same guarded
statement from ready arrays by one psycopg connection at its best batch size, or a bare `consume()` for the hot keys.
The cache holds a pending entry for each key, which the flusher settles on the same processors; for the `alone` ratios
it holds nothing, and the flusher's own part is seen.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable

import redis

from writebehind.embedded import Stack
from writebehind.shared.registry import load as load_entities
from writebehind.shared.settings import load_settings

from . import raw
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
        insert_ratio, insert_run, insert_alone = self._against(insert, lambda: self._guarded(insert), alone=True)
        update_ratio, update_run, update_alone = self._against(update, lambda: self._guarded(update), alone=True)
        bare_ratio, _, _ = self._against(
            update, lambda: {rows: raw.bare_row_level(update, self._url, batch_rows=rows) for rows in BATCHES}
        )
        hot_ratio, hot_run, _ = self._against(hot, lambda: {0: raw.consume(hot, self._kafka)})
        parallel = {count: self._parallel(update, count) for count in connections}
        best = max(parallel, key=lambda count: parallel[count][1])
        return {
            "insert_ratio": round(insert_ratio, 2),
            "update_ratio": round(update_ratio, 2),
            "insert_alone_ratio": round(insert_alone, 2),
            "update_alone_ratio": round(update_alone, 2),
            "bare_row_update_ratio": round(bare_ratio, 2),
            "parallel_update_ratio": round(parallel[best][0], 2),
            "parallel_best_connections": best,
            "insert_rows_per_s": round(insert_run.records_per_s),
            "update_rows_per_s": round(update_run.records_per_s),
            "hot_messages_per_s": round(hot_run.records_per_s),
            "hot_ratio_to_consume": round(hot_ratio, 2),
            "flusher_cpu_us_per_row": round(update_run.cpu_us_per_record, 2),
            "rss_mib": round(max(run.rss_mib for run in (insert_run, update_run, hot_run))),
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

    def _against(
        self, load: Load, limit: Callable[[], dict[int, float]], *, alone: bool = False
    ) -> tuple[float, Run, float]:
        """Median ratio of the flusher to the limit over the rounds, the median run, and the ratio without entries.

        The limit is that of the batch size with the best median: the best run of all sizes would be the luckiest one.
        """
        limits: list[dict[int, float]] = []
        runs: list[Run] = []
        alone_runs: list[Run] = []
        for _ in range(self._rounds):
            limits.append(limit())
            if alone:
                self._entries([])
                alone_runs.append(self._flush(load))
            self._entries([load])
            runs.append(self._flush(load))
            self._say(
                f"{load.name}: limit {', '.join(f'{rate:,.0f}' for rate in limits[-1].values())}/s, "
                f"flusher {runs[-1]}" + (f"; with nothing in the cache {alone_runs[-1]}" if alone else "")
            )
        best = max(limits[0], key=lambda size: statistics.median(rates[size] for rates in limits))

        def ratio(runs: list[Run]) -> float:
            return statistics.median(run.records_per_s / rates[best] for run, rates in zip(runs, limits, strict=True))

        median_run = sorted(runs, key=lambda run: run.records_per_s)[len(runs) // 2]
        return ratio(runs), median_run, ratio(alone_runs) if alone else 0.0

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


def overrides(env: dict[str, str]) -> dict[str, object]:
    return {
        "kafka": {"bootstrap_servers": env["WRITEBEHIND_KAFKA__BOOTSTRAP_SERVERS"]},
        "database": {"url": env["WRITEBEHIND_DATABASE__URL"]},
        "cache": {"url": env["WRITEBEHIND_CACHE__URL"]},
    }


if __name__ == "__main__":
    sys.exit(main())

"""What refused records cost: `make bench-poison`.

The same records through the same flusher, once clean and once with some that the table refuses, in turn. Letters and
their acknowledgements are included; entries are in the cache, so that settling has its work to do.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import psycopg

from writebehind.embedded import Stack
from writebehind.flusher.migrate import migrate
from writebehind.shared.registry import load as load_entities
from writebehind.shared.settings import load_settings

from . import raw
from .bench_flush import overrides
from .entities import BenchClean, BenchPoison
from .flusher_process import Run, flush, reset_progress
from .load import Load, create_topic, prefill_cache, prefill_kafka

FOUND = re.compile(r"(\d+) records of a batch are refused, found with (\d+) tries \((\d+) statements\)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000, help="records per load (default 100,000)")
    parser.add_argument("--one-in", type=int, default=100, help="one in so many records is refused (default 100)")
    parser.add_argument("--rounds", type=int, default=3, help="clean and poisoned in turn; medians are reported")
    parser.add_argument("--quick", action="store_true", help="20,000 records, one round")
    parser.add_argument("--json", action="store_true", help="print the JSON line only")
    args = parser.parse_args()
    if args.quick:
        args.records, args.rounds = 20_000, 1
    say: Callable[[str], None] = (
        (lambda text: None) if args.json else (lambda text: print(text, file=sys.stderr, flush=True))
    )
    with Stack(kafka_jit="full") as stack:
        print(json.dumps(measure(stack, args.records, args.one_in, args.rounds, say)))
    return 0


def measure(stack: Stack, records: int, one_in: int, rounds: int, say: Callable[[str], None]) -> dict[str, object]:
    """Rates with and without poison, and what the search for it took."""
    loads = [Load(cls.__name__, cls, range(records), 0) for cls in (BenchClean, BenchPoison)]
    url = stack.postgres.url
    for load in loads:
        create_topic(stack.kafka.bootstrap_servers, load.topic)
        raw.prepare_table(load, url)
    migrate(load_settings(**overrides(stack.env())), load_entities(["tests.benchmarks.entities"]))
    for load in loads:
        prefill_kafka(load, stack.kafka.bootstrap_servers)
    ratios: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "flusher.log"
        for _ in range(rounds):
            clean, poisoned = (_run(load, stack, one_in, log) for load in loads)
            ratios.append(poisoned.records_per_s / clean.records_per_s)
            say(
                f"clean {clean.records_per_s:,.0f}/s, one in {one_in} refused {poisoned.records_per_s:,.0f}/s, "
                f"ratio {ratios[-1]:.2f}"
            )
        found = [tuple(map(int, pair)) for pair in FOUND.findall(log.read_text())]
    letters, tries, statements = (sum(column) for column in zip(*found, strict=True))
    return {
        "ratio_to_clean": round(statistics.median(ratios), 2),
        "extra_statements_per_letter": round(statements / letters, 1),  # those of the savepoint among them
        "tries_per_letter": round(tries / letters, 1),
        "letters": letters // rounds,
    }


def _run(load: Load, stack: Stack, one_in: int, log: Path) -> Run:
    url = stack.postgres.url
    raw.prepare_table(load, url)
    prefill_cache(load, stack.valkey.url)
    if load.cls is BenchPoison:
        with psycopg.connect(url, autocommit=True) as connection:
            check = f"CHECK (hashint8(id) % {one_in} <> 0)"
            connection.execute(f"ALTER TABLE {load.declaration.table} ADD {check}".encode())
            connection.execute("TRUNCATE writebehind.letter")
    reset_progress(load, url)
    return flush(load, stack.env(), url, log=log)


if __name__ == "__main__":
    sys.exit(main())

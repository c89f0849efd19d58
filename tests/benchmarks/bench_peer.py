"""The flusher beside its strongest peer, the Debezium JDBC sink with four tasks: `make bench-peer`.

Both write the same rows from the same partitions into the same table on the same servers, each with the best of its
settings, which is found first. Those trials also warm the peer's compiler up, which takes more records than a small run
has: its ratios flatter us. Then they take turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psycopg

from writebehind.embedded import Stack
from writebehind.embedded.supervisor import Supervisor

from . import raw
from .bench_flush import BATCHES
from .flusher_process import Run, reset_progress, running
from .load import Load, create_topic, loads, prefill_cache, prefill_kafka
from .peer.connect import Connect
from .peer.records import prefill, topic
from .visible import Visible
from .world import speaker, world


class Tried(NamedTuple):
    """The settings that are tried of the flusher and of the peer. Small batches leave a small run a stretch to see."""

    connections: tuple[int, ...] = (1, 2, 4)
    batch_rows: tuple[int, ...] = BATCHES


QUICK = Tried(connections=(1, 2), batch_rows=(1_000, 2_000))
NOT_DONE = ["exactly-once", "version guards", "settling of cache entries"]
EPOCHS = "SELECT coalesce(sum(owner_epoch), 0) FROM writebehind.progress WHERE topic = %s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=500_000, help="records per load (default 500,000)")
    parser.add_argument("--rounds", type=int, default=3, help="peer and flusher in turn; medians are reported")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="50,000 records, one round, fewer settings tried: too few for the peer to be warm",
    )
    parser.add_argument("--json", action="store_true", help="print the JSON line only")
    args = parser.parse_args()
    if args.quick:
        args.records, args.rounds = 50_000, 1
    say = speaker(args)
    supervisor = Supervisor()
    folder = Path(tempfile.mkdtemp(prefix="writebehind-peer-"))
    supervisor.remove_at_end(folder)
    with world() as servers:
        connect = Connect(supervisor, folder / "connect", servers.stack.bootstrap_servers)
        try:
            bench = Bench(servers.stack, connect, args.rounds, QUICK if args.quick else Tried(), say)
            print(json.dumps(bench.run(loads(args.records))))
        finally:
            supervisor.close()
            connect.release()
    return 0


class Bench:
    def __init__(self, stack: Stack, connect: Connect, rounds: int, tried: Tried, say: Callable[[str], None]) -> None:
        self._stack = stack
        self._connect = connect
        self._rounds = rounds
        self._tried = tried
        self._say = say

    def run(self, cases: list[Load]) -> dict[str, object]:
        self._say("starting the peer's worker; the first time, its jars are fetched")
        self._connect.start()
        self._prepare(cases)
        result: dict[str, object] = {}
        memory: dict[str, float] = {"flusher": 0.0, "peer": 0.0}
        for load in cases:
            ours, theirs = self._case(load)
            ratio = statistics.median(a.records_per_s / b.records_per_s for a, b in zip(ours, theirs, strict=True))
            result[f"{load.name}_ratio"] = round(ratio, 2)
            for name, runs in (("flusher", ours), ("peer", theirs)):
                result[f"{load.name}_{name}_per_s"] = round(statistics.median(run.records_per_s for run in runs))
                memory[name] = max(memory[name], *(run.rss_mib for run in runs))
        result |= {f"{name}_rss_mib": round(mib) for name, mib in memory.items()}
        return result | {"rss_ratio": round(memory["flusher"] / memory["peer"], 3), "peer_does_not": NOT_DONE}

    def _prepare(self, cases: list[Load]) -> None:
        for load in cases:
            create_topic(self._stack.bootstrap_servers, topic(load))
            self._say(f"prefilling {load.name}: {len(load.keys):,} records, for each in its format")
            prefill_kafka(load, self._stack.bootstrap_servers)
            prefill(load, self._stack.bootstrap_servers)

    def _case(self, load: Load) -> tuple[list[Run], list[Run]]:
        """Runs of the flusher and of the peer, in turn."""
        visible = Visible(load)
        self._peer(load, visible, self._tried.batch_rows[-1])  # cold: not counted
        rates = {rows: self._peer(load, visible, rows).records_per_s for rows in self._tried.batch_rows}
        batch_rows = max(rates, key=lambda rows: rates[rows])
        rates = {count: self._flusher(load, visible, count).records_per_s for count in self._tried.connections}
        connections = max(rates, key=lambda count: rates[count])
        ours: list[Run] = []
        theirs: list[Run] = []
        for _ in range(self._rounds):
            theirs.append(self._peer(load, visible, batch_rows))
            ours.append(self._flusher(load, visible, connections))
            self._say(
                f"{load.name}: peer {theirs[-1]} with batches of {batch_rows:,}; flusher {ours[-1]} with "
                f"{connections} connections; ratio {ours[-1].records_per_s / theirs[-1].records_per_s:.2f}"
            )
        return ours, theirs

    def _flusher(self, load: Load, visible: Visible, connections: int) -> Run:
        raw.prepare_table(load, self._stack.database_url)
        prefill_cache(load, self._stack.cache_url)
        reset_progress(load, self._stack.database_url)
        with psycopg.connect(self._stack.database_url, autocommit=True) as connection:

            def epochs() -> object:
                return connection.execute(EPOCHS, (load.topic,)).fetchone()

            before = epochs()
            with running(load.cls, self._stack.env(), connections=connections) as process:
                return visible.watch(process.pid, self._stack.database_url, lambda: epochs() != before)

    def _peer(self, load: Load, visible: Visible, batch_rows: int) -> Run:
        raw.prepare_table(load, self._stack.database_url)
        pid = self._connect.pid
        if pid is None:
            raise RuntimeError(f"the peer's worker ended: {self._connect.log_tail()}")
        with self._connect.sink(load, self._stack.postgres, batch_rows) as name:
            return visible.watch(pid, self._stack.database_url, lambda: self._connect.writing(name))


if __name__ == "__main__":
    sys.exit(main())

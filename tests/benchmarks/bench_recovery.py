"""How fast a flusher catches up after the database was killed and away, under steady load: `make bench-recovery`.

One process writes increments and values through the public API, another one flushes; Postgres is killed (`kill -9`) and
started again after a while. The rate at which the backlog is flushed is set against the rate at which records came in.
In the end every row is compared with what the producer was told; a write that is missing or doubled is exit code 1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Consumer, TopicPartition

from writebehind.embedded import Stack
from writebehind.flusher.migrate import migrate
from writebehind.shared import naming
from writebehind.shared.declaration import declaration_of
from writebehind.shared.registry import Registry
from writebehind.shared.settings import load_settings

from .bench_flush import overrides
from .entities import TALLY_DDL, TALLY_FILL, BenchTally
from .flusher_process import ROOT, running
from .recovery import Look, Recovery, recovery
from .tally import Tally, compare
from .world import arguments, speaker

KEYS = 100_000  # many more than a batch has rows: what is flushed are rows, not folds of the same few
LOOK_EVERY_S = 0.1
TELL_EVERY_S = 5.0
START_TIMEOUT_S = 60.0
CATCH_UP_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
Say = Callable[[str], None]


def main() -> int:
    args = arguments(
        __doc__,
        rate=(int, 8_000, "offered writes per second"),
        outage=(float, 60.0, "how long the database is away, in seconds"),
        before=(float, 10.0, "steady load before that, in seconds"),
    )
    if args.quick:
        args.outage, args.before = min(args.outage, 10.0), 5.0
    with Stack(kafka_jit="full") as stack, tempfile.TemporaryDirectory() as folder:
        result = run(stack, Path(folder), args.rate, args.before, args.outage, speaker(args))
    print(json.dumps(result))
    return 0 if result["missing"] == result["doubled"] == 0 else 1


def run(stack: Stack, folder: Path, rate: int, before_s: float, outage_s: float, say: Say) -> dict[str, float]:
    """The whole run; whatever it started is ended."""
    prepare(stack)
    tally, log = folder / "tally.json", folder / "flusher.log"
    with ExitStack() as opened:
        flusher = opened.enter_context(running(BenchTally, stack.env(), log=log))
        producer = opened.enter_context(producing(stack, rate, tally))
        watch = opened.enter_context(closing(Watch(stack, {"flusher": flusher, "producer": producer}, say)))
        watch.until(lambda: bool(watch.newest.flushed), START_TIMEOUT_S, "something to be flushed")
        watch.looks.clear()
        watch.last(before_s)
        say(f"killing the database for {outage_s:g} s")
        stack.postgres.kill()
        watch.last(outage_s)
        stack.postgres.start()
        back_at = time.monotonic()
        say("the database is back")
        watch.until(
            lambda: recovery(watch.looks, back_at) is not None, CATCH_UP_TIMEOUT_S + 5 * outage_s, "it to catch up"
        )
        found = recovery(watch.looks, back_at)
        assert found is not None
        watch.processes.clear()
        producer.terminate()
        if producer.wait(STOP_TIMEOUT_S) != 0:
            raise RuntimeError(f"the producer ended with {producer.returncode}")
        watch.until(lambda: watch.newest.written == watch.newest.flushed, STOP_TIMEOUT_S, "the rest to be flushed")
    return figures(found, back_at, rate, outage_s) | check(stack, Tally.load(tally), say)


def prepare(stack: Stack) -> None:
    """The table with its rows, the bookkeeping and the topic."""
    with psycopg.connect(stack.postgres.url, autocommit=True) as connection:
        for statement in (TALLY_DDL, TALLY_FILL.format(rows=KEYS), "VACUUM ANALYZE bench_tally"):
            connection.execute(statement.encode())
    migrate(load_settings(**overrides(stack.env())), Registry([BenchTally]))


@contextmanager
def producing(stack: Stack, rate: int, tally: Path) -> Iterator[subprocess.Popen[str]]:
    """The process that writes, from its first write on; killed at the end if it still runs."""
    command = [sys.executable, "-m", "tests.benchmarks.producer_process", "--tally", str(tally)]
    with subprocess.Popen(
        [*command, "--rate", str(rate), "--keys", str(KEYS)],
        env={**os.environ, **stack.env()},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "writing\n":
                raise RuntimeError("the producer did not begin to write")
            yield process
        finally:
            process.kill()


class Watch:
    """Looks at the log and the database again and again. `processes`: those that must go on."""

    def __init__(self, stack: Stack, processes: dict[str, subprocess.Popen[Any]], say: Say) -> None:
        self.looks: list[Look] = []
        self.processes = processes
        self._say = say
        self._url = stack.postgres.url
        self._topic = naming.topic("writebehind.", declaration_of(BenchTally).name)
        self._consumer = Consumer({"bootstrap.servers": stack.bootstrap_servers, "group.id": "bench-recovery"})
        self._partitions = list(self._consumer.list_topics(self._topic, 10).topics[self._topic].partitions)
        self._connection: psycopg.Connection[Any] | None = None
        self._told_at = 0.0

    @property
    def newest(self) -> Look:
        return self.looks[-1]

    def close(self) -> None:
        self._consumer.close()
        if self._connection is not None:
            self._connection.close()

    def last(self, seconds: float) -> None:
        """Look for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._look()

    def until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Look until something is so. Raises RuntimeError when that takes too long."""
        deadline = time.monotonic() + timeout_s
        self._look()
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"waited {timeout_s:g} s for {what}")
            self._look()

    def _look(self) -> None:
        time.sleep(LOOK_EVERY_S)
        ended = [name for name, process in self.processes.items() if process.poll() is not None]
        if ended:
            raise RuntimeError(f"{' and '.join(ended)} ended before the time")
        # What is flushed is asked first and compared with a later end: the lag is never told smaller than it is.
        flushed = self._flushed()
        places = [TopicPartition(self._topic, number) for number in self._partitions]
        look = Look(time.monotonic(), sum(self._consumer.get_watermark_offsets(at, 5.0)[1] for at in places), flushed)
        self.looks.append(look)
        if look.at > self._told_at + TELL_EVERY_S:
            self._told_at = look.at
            lag = "no database" if flushed is None else f"{look.written - flushed:,} behind"
            self._say(f"{look.written:,} records written, {lag}")

    def _flushed(self) -> int | None:
        query = "SELECT COALESCE(sum(next_offset), 0)::bigint FROM writebehind.progress WHERE topic = %s"
        try:
            if self._connection is None:
                self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=5)
            row = self._connection.execute(query, (self._topic,)).fetchone()
        except psycopg.OperationalError:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            return None
        return row[0] if row is not None else None


def figures(found: Recovery, back_at: float, rate: int, outage_s: float) -> dict[str, float]:
    """What the line of JSON says of the speed."""
    return {
        "catch_up_ratio": round(found.ratio, 2),
        "ingest_per_s": round(found.ingest_per_s),
        "flushed_per_s": round(found.flushed_per_s),
        "outage_s": outage_s,
        "recovery_s": round(found.caught_up_at - back_at, 1),
        "offered_per_s": rate,
        "ingest_while_catching_up_per_s": round(found.ingest_meanwhile_per_s),
    }


def check(stack: Stack, tally: Tally, say: Say) -> dict[str, float]:
    """What the line of JSON says of the rows."""
    with psycopg.connect(stack.postgres.url) as connection:
        rows = connection.execute("SELECT id, hits, note FROM bench_tally").fetchall()
    say(f"{tally.acknowledged.total():,} writes acknowledged, {tally.unknown.total()} unknown, {tally.failed} failed")
    missing, doubled = compare(tally, {key: (hits, note) for key, hits, note in rows})
    return {"acknowledged": tally.acknowledged.total(), "missing": missing, "doubled": doubled}


if __name__ == "__main__":
    sys.exit(main())

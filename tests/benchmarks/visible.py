"""How much of a load a table shows, told from its rows alone, so that any writer can be measured the same way.

A record's score is its version, and each partition is written in order: a record has been written when the row of its
key has its score or a higher one. Looking at some records of each partition tells how far it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg

from writebehind.flusher.audit.partition import partition_of

from .flusher_process import DEADLINE_S, LOOK_S, Run, cpu_s, peak_rss_mib
from .load import FIRST_VERSION, PARTITIONS, Load

MARKS = 250  # of each partition
Mark = tuple[int, int, int]  # key, score, and how many records of its partition came since the mark before


class Visible:
    """What `load`'s table shows of it."""

    def __init__(self, load: Load) -> None:
        self._load = load
        text = load.declaration.key_text
        parts: list[list[int]] = [[] for _ in range(PARTITIONS)]
        for index, key in enumerate(load.keys):
            parts[partition_of(text((key,)).encode(), PARTITIONS)].append(index)
        marks = [self._marks(indexes) for indexes in parts if indexes]
        self._all = [mark for part in marks for mark in part]
        self._first = [part[0] for part in marks]
        self._last = [part[-1] for part in marks]
        self._sum = sum({key: FIRST_VERSION + index for index, key in enumerate(load.keys)}.values())

    def _marks(self, indexes: list[int]) -> list[Mark]:
        places = [*range(0, len(indexes) - 1, max(1, len(indexes) // MARKS)), len(indexes) - 1]
        return [
            (self._load.keys[indexes[place]], FIRST_VERSION + indexes[place], place - before)
            for place, before in zip(places, [-1, *places], strict=False)
        ]

    def watch(self, pid: int, url: str, ready: Callable[[], bool]) -> Run:
        """Wait until all of the load is visible: its rate from the first to the last row, CPU and memory of `pid`.

        When most of it shows at once, there is no stretch to measure, and everything counts since `ready`. CPU always
        does: a writer reads ahead of what it shows.
        """
        deadline = time.monotonic() + DEADLINE_S
        total = len(self._load.keys)
        with psycopg.connect(url, autocommit=True) as connection:
            # What is looked for is a handful of rows of a table that nobody has analysed.
            for way in ("seqscan", "hashjoin", "mergejoin"):
                connection.execute(f"SET enable_{way} = off".encode())

            def wait(done: Callable[[], bool]) -> None:
                while not done():
                    if time.monotonic() > deadline:
                        raise RuntimeError("the writer stopped or hung before it was done")
                    time.sleep(LOOK_S)

            wait(ready)
            began, cpu_before, first = time.perf_counter(), cpu_s(pid), 0
            wait(lambda: self._seen(connection, self._first) > 0)
            at, seen = time.perf_counter(), self._seen(connection, self._all)
            if seen < total // 2:
                began, first = at, seen
            last = sum(weight for _, _, weight in self._last)
            wait(lambda: self._seen(connection, self._last) == last)
            took_s = time.perf_counter() - began
            cpu = cpu_s(pid) - cpu_before
            self._check(connection)
        return Run((total - first) / took_s, cpu / total * 1e6, peak_rss_mib(pid))

    def _seen(self, connection: psycopg.Connection[Any], marks: list[Mark]) -> int:
        """The records up to the newest visible of these."""
        row = connection.execute(
            f"SELECT coalesce(sum(weight), 0) FROM unnest(%b::int8[], %b::int8[], %b::int8[]) AS m (id, score, weight) "
            f"JOIN {self._load.declaration.table} AS t ON t.id = m.id AND t.score >= m.score".encode(),
            [list(column) for column in zip(*marks, strict=True)],
        ).fetchone()
        return int(row[0]) if row else 0

    def _check(self, connection: psycopg.Connection[Any]) -> None:
        """Every key has its newest record's score."""
        table = self._load.declaration.table
        row = connection.execute(f"SELECT sum(score) FROM {table} WHERE score >= {FIRST_VERSION}".encode()).fetchone()
        if row is None or row[0] != self._sum:
            raise RuntimeError(f"{table} does not hold what was written")

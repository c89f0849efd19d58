"""A flusher run as its own process, watched from outside: rate from the first to the last row visible, CPU and
memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from writebehind.shared.entity import Entity

from .load import Load

ROOT = Path(__file__).parents[2]
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
DEADLINE_S = 300
LOOK_S = 0.02  # a look costs half a millisecond, which the raw limit beside it does not pay


@dataclass(frozen=True, slots=True)
class Run:
    """What one flusher did. `records_per_s` counts from the first commit seen to the last."""

    records_per_s: float
    cpu_us_per_record: float
    rss_mib: float

    def __str__(self) -> str:
        return f"{self.records_per_s:,.0f}/s, {self.cpu_us_per_record:.1f} µs CPU a record, {self.rss_mib:.0f} MiB"


def reset_progress(load: Load, url: str) -> None:
    """Let the next flusher start at the beginning of the topic."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE writebehind.progress SET next_offset = 0 WHERE topic = %s", (load.topic,))


def flush(load: Load, env: Mapping[str, str], url: str, *, connections: int = 1, log: Path | None = None) -> Run:
    """Start `writebehind flush` on the load's topic, wait until Postgres has all of it, stop it."""
    with running(load.cls, env, connections=connections, log=log) as process:
        return _watch(process, load, url)


@contextmanager
def running(
    cls: type[Entity], env: Mapping[str, str], *, connections: int = 1, log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """`writebehind flush` of one entity, stopped at the end. `log`: where its log is appended, instead of to ours."""
    entity = f"{cls.__module__}:{cls.__name__}"
    command = [sys.executable, "-m", "writebehind.flusher", "flush", "--entities", entity]
    with ExitStack() as stack:
        process = subprocess.Popen(
            [*command, "--connections", str(connections)],
            env={**os.environ, **env},
            cwd=ROOT,
            stderr=stack.enter_context(log.open("ab")) if log else None,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


def _watch(process: subprocess.Popen[bytes], load: Load, url: str) -> Run:
    total = len(load.keys)
    deadline = time.monotonic() + DEADLINE_S
    progress = (
        "SELECT COALESCE(sum(next_offset), 0), COALESCE(sum(owner_epoch), 0) FROM writebehind.progress WHERE topic = %s"
    )
    with psycopg.connect(url, autocommit=True) as connection:

        def look() -> tuple[int, int]:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the flusher stopped or hung before it was done")
            row = connection.execute(progress, (load.topic,)).fetchone()
            time.sleep(LOOK_S)
            return (int(row[0]), int(row[1])) if row else (0, 0)

        done, epochs = look()
        while look()[1] == epochs:
            pass
        began, cpu_before, first = time.perf_counter(), cpu_s(process.pid), 0
        while not done:
            done = look()[0]
        if done < total // 2:  # else there is no stretch to measure, and the first batch counts
            began, cpu_before, first = time.perf_counter(), cpu_s(process.pid), done
        while done < total:
            done = look()[0]
    took_s = time.perf_counter() - began
    records = total - first
    return Run(records / took_s, (cpu_s(process.pid) - cpu_before) / records * 1e6, peak_rss_mib(process.pid))


def cpu_s(pid: int) -> float:
    """What the process has used so far, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def peak_rss_mib(pid: int) -> float:
    """The most memory that the process has had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this system does not tell a process's peak memory")

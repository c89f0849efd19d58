"""Whether producer and flusher keep a flat resident set over millions of messages: `make bench-memory`.

The slope is a least-squares fit over samples of the second half, when pools and caches are warm, in bytes per message.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

import psycopg

from writebehind.producer import AsyncClient

from .bench_produce import CHUNK, patch
from .entities import BenchHot
from .world import World, arguments, speaker, world

KEYS = 10_000
SAMPLES = 100


def main() -> int:
    args = arguments(__doc__, messages=(int, 10_000_000, "messages through the whole path"))
    if args.quick:
        args.messages = 200_000
    with world() as servers:
        producer, flusher = asyncio.run(run(servers, args.messages))
    say = speaker(args)
    result = {"messages": args.messages}
    for name, samples in (("producer", producer), ("flusher", flusher)):
        say(f"{name}: {samples[0][1] / 2**20:.0f} MiB at the start, {samples[-1][1] / 2**20:.0f} MiB at the end")
        result |= {
            f"{name}_bytes_per_message": round(slope(samples), 3),
            f"{name}_rss_mib": round(samples[-1][1] / 2**20),
        }
    print(json.dumps(result))
    return 0


async def run(servers: World, messages: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    command = [sys.executable, "-m", "writebehind.flusher", "flush", "--entities", "tests.benchmarks.entities:BenchHot"]
    root = Path(__file__).parents[2]
    with tempfile.TemporaryFile() as log:  # what it says is of no use once it has flushed everything
        flusher = _start(command, {**os.environ, **servers.env}, root, log)
    ours: list[tuple[int, int]] = []
    theirs: list[tuple[int, int]] = []
    try:
        async with AsyncClient.open(servers.settings) as client:
            for start in range(0, messages, CHUNK):
                patches = [((start + n) % KEYS, patch(start + n)) for n in range(CHUNK)]
                await client.update_many(BenchHot, patches)
                if start % max(CHUNK, messages // SAMPLES // CHUNK * CHUNK) == 0:
                    ours.append((start, _rss(os.getpid())))
                    theirs.append((start, _rss(flusher.pid)))
        _wait_flushed(servers, messages)
    finally:
        flusher.terminate()
        flusher.wait(30)
    return ours, theirs


def _start(command: list[str], env: dict[str, str], folder: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=env, cwd=folder, stderr=log)


def _wait_flushed(servers: World, messages: int) -> None:
    deadline = time.monotonic() + 120
    with psycopg.connect(servers.url, autocommit=True) as connection:
        while time.monotonic() < deadline:
            row = connection.execute("SELECT sum(next_offset) FROM writebehind.progress").fetchone()
            if row is not None and row[0] == messages:
                return
            time.sleep(0.1)
    raise RuntimeError("the flusher did not flush everything")


def _rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def slope(samples: list[tuple[int, int]]) -> float:
    """Bytes per message, over the second half of the samples."""
    half = samples[len(samples) // 2 :]
    x_mean = sum(x for x, _ in half) / len(half)
    y_mean = sum(y for _, y in half) / len(half)
    spread = sum((x - x_mean) ** 2 for x, _ in half)
    return sum((x - x_mean) * (y - y_mean) for x, y in half) / spread if spread else 0.0


if __name__ == "__main__":
    sys.exit(main())

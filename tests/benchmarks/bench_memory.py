"""Whether producer and flusher keep a flat resident set over millions of messages: `make bench-memory`.

The slope is a least-squares fit over samples of the second half, when pools and caches are warm, in bytes per message.
With `--telemetry` both export metrics and traces, as in `make bench-telemetry`; `--rate 2800` makes it an hour.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path

import psycopg

from writebehind.producer import AsyncClient

from .bench_produce import CHUNK, patch
from .bench_telemetry import collector, exporting
from .entities import BenchHot
from .flusher_process import running
from .telemetry_process import Request, Sdk
from .world import World, arguments, speaker, world

KEYS = 10_000
SINGLE = 100  # of a chunk, by calls of their own
SAMPLED = 0.1  # of chunks: more than anybody would, to see what spans leave behind
SAMPLES = 100


Samples = list[tuple[int, int]]  # messages, and bytes of the resident set


def main() -> int:
    args = arguments(
        __doc__,
        messages=(int, 10_000_000, "messages through the whole path"),
        rate=(int, 0, "messages a second; 0: as fast as it goes"),
        telemetry=(bool, False, "both export metrics and traces"),
    )
    if args.quick:
        args.messages = 200_000
    say = speaker(args)
    began = time.monotonic()
    with ExitStack() as opened:
        servers = opened.enter_context(world())
        request: Request = nullcontext
        if args.telemetry:
            os.environ.update(exporting(opened.enter_context(collector())))
            sdk = Sdk(SAMPLED, ours=True)
            request = sdk.request
            opened.callback(sdk.shut_down)
        producer, flusher = run(servers, args.messages, args.rate, request, say)
    result = {"messages": args.messages, "telemetry": args.telemetry, "took_s": round(time.monotonic() - began)}
    for name, samples in (("producer", producer), ("flusher", flusher)):
        say(f"{name}: {samples[0][1] / 2**20:.0f} MiB at the start, {samples[-1][1] / 2**20:.0f} MiB at the end")
        result |= {
            f"{name}_bytes_per_message": round(slope(samples), 3),
            f"{name}_rss_mib": round(samples[-1][1] / 2**20),
        }
    print(json.dumps(result))
    return 0


def run(
    servers: World, messages: int, rate: int, request: Request, say: Callable[[str], None]
) -> tuple[Samples, Samples]:
    """Samples of the producer, which is this process, and of a flusher."""
    with (
        tempfile.TemporaryDirectory() as folder,  # what it logs is of no use once it has flushed everything
        running(BenchHot, servers.env, log=Path(folder) / "log") as flusher,
    ):
        found = asyncio.run(_write(servers, messages, rate, request, flusher.pid, say))
        _wait_flushed(servers, messages)
    return found


async def _write(
    servers: World, messages: int, rate: int, request: Request, flusher: int, say: Callable[[str], None]
) -> tuple[Samples, Samples]:
    ours: Samples = []
    theirs: Samples = []
    every = max(CHUNK, messages // SAMPLES // CHUNK * CHUNK)
    began = time.monotonic()
    async with AsyncClient.open(servers.settings) as client:
        for start in range(0, messages, CHUNK):
            if rate:
                await asyncio.sleep(began + start / rate - time.monotonic())
            patches = [((start + n) % KEYS, patch(start + n)) for n in range(CHUNK)]
            with request():
                await asyncio.gather(*[client.update(BenchHot, key, **values) for key, values in patches[:SINGLE]])
                await client.update_many(BenchHot, patches[SINGLE:])
            if start % every == 0:
                ours.append((start, _rss(os.getpid())))
                theirs.append((start, _rss(flusher)))
                say(f"{start:,} messages: {ours[-1][1] / 2**20:.1f} and {theirs[-1][1] / 2**20:.1f} MiB")
    return ours, theirs


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


def slope(samples: Samples) -> float:
    """Bytes per message, over the second half of the samples."""
    half = samples[len(samples) // 2 :]
    x_mean = sum(x for x, _ in half) / len(half)
    y_mean = sum(y for _, y in half) / len(half)
    spread = sum((x - x_mean) ** 2 for x, _ in half)
    return sum((x - x_mean) * (y - y_mean) for x, y in half) / spread if spread else 0.0


if __name__ == "__main__":
    sys.exit(main())

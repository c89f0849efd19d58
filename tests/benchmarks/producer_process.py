"""A service that writes at a steady rate until SIGTERM: `python -m tests.benchmarks.producer_process --tally FILE …`.

Open loop: calls are due at fixed times, whether or not those before are done, as far as `CALLS_IN_FLIGHT` allows.
It says `writing` on standard output when it begins, and leaves in FILE what it was told of its writes.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from writebehind.producer import AsyncClient, AsyncReceipt, NotApplied, PartlyFailed

from .entities import BenchTally
from .tally import Tally

CALLS_PER_S = 20
CALLS_IN_FLIGHT = 8
KEYS_PER_READ = 1_000


async def run(rate: int, keys: int) -> Tally:
    """Write until SIGTERM, and wait for what is under way."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    tally, numbers, chance = Tally(), itertools.count(), random.Random(20130101)
    per_call = max(1, rate // CALLS_PER_S)
    async with AsyncClient.open() as client:
        # The first increment of a row that is not cached waits for the database, which is about to go away.
        for start in range(0, keys, KEYS_PER_READ):
            await client.get_many(BenchTally, range(start, min(keys, start + KEYS_PER_READ)))
        print("writing", flush=True)
        due = itertools.count(time.monotonic(), per_call / rate)

        async def work(due: Iterator[float]) -> None:
            while not stopping.is_set():
                await asyncio.sleep(next(due) - time.monotonic())
                writes = [(chance.randrange(keys), next(numbers)) for _ in range(per_call)]
                await write(client, writes, tally)

        await asyncio.gather(*[work(due) for _ in range(CALLS_IN_FLIGHT)])
    return tally


async def write(client: AsyncClient, writes: list[tuple[int, int]], tally: Tally) -> None:
    """One call of many increments, as (key, note) pairs, and what it was answered."""
    receipts: dict[int, object]
    failures: dict[int, Exception] = {}
    try:
        answers = await client.update_many(BenchTally, [(key, {"hits": 1, "note": note}) for key, note in writes])
        receipts = dict(enumerate(answers))
    except PartlyFailed as error:
        receipts, failures = dict(error.receipts), dict(error.failures)
    for index, (key, note) in enumerate(writes):
        receipt = receipts.get(index)
        if isinstance(receipt, AsyncReceipt):
            tally.add(key, receipt.version, note)
        elif isinstance(failures[index], NotApplied):
            tally.failed += 1
        else:
            tally.unknown[key] += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, required=True, help="offered writes per second")
    parser.add_argument("--keys", type=int, required=True, help="rows they fall on")
    parser.add_argument("--tally", type=Path, required=True, help="where to leave what came of them")
    args = parser.parse_args()
    asyncio.run(run(args.rate, args.keys)).save(args.tally)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""One workload as a process, until SIGTERM: `python -m tests.faults.workload NAME --seed S --history FILE`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from tests.faults.driver import Driver
from tests.faults.histories import Writer
from tests.faults.workloads import WORKLOADS
from tests.faults.workloads.poller import poll
from writebehind.producer import AsyncClient

CLOSE_TIMEOUT_S = 15.0


async def run(args: argparse.Namespace) -> None:
    """Work until told to stop, finish the calls that are under way, and drain the client."""
    with Writer(args.history) as history:
        client = await AsyncClient.open().start()
        driver = Driver(client, history, seed=args.seed, index=args.index, rate=args.rate, poison=args.poison)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, driver.stopping.set)
        try:
            await WORKLOADS[args.name](driver)
        finally:
            await client.close(CLOSE_TIMEOUT_S)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=[*WORKLOADS, "poller"])
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--history", type=Path, required=True)
    parser.add_argument("--index", type=int, default=0, help="which of several processes of this workload")
    parser.add_argument("--rate", type=float, default=20.0, help="calls per second, about")
    parser.add_argument("--poison", type=float, default=0.0, help="share of writes that the table refuses (W7)")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    if args.name == "poller":
        poll(args.history)
    else:
        asyncio.run(run(args))
    return 0


if __name__ == "__main__":
    sys.exit(main())

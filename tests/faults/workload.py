"""One workload as a process, until SIGTERM: `python -m tests.faults.workload NAME --seed S --history FILE`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path

from tests.faults.bugs import BUGS
from tests.faults.crew import AUDITOR, POLLER
from tests.faults.driver import Driver
from tests.faults.histories import Writer
from tests.faults.planting import planted
from tests.faults.workloads import WORKLOADS
from tests.faults.workloads.auditor import audit_again_and_again
from tests.faults.workloads.poller import poll
from writebehind.producer import AsyncClient

CLOSE_TIMEOUT_S = 15.0


async def run(args: argparse.Namespace) -> None:
    """Work until told to stop, finish the calls that are under way, and drain the client."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    with Writer(args.history) as history:  # there is one: from now on a signal ends us in order
        client = await AsyncClient.open().start()
        driver = Driver(client, history, stopping, seed=args.seed, index=args.index, rate=args.rate, poison=args.poison)
        try:
            await WORKLOADS[args.name](driver)
        finally:
            await client.close(CLOSE_TIMEOUT_S)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=[*WORKLOADS, POLLER, AUDITOR])
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--history", type=Path, required=True)
    parser.add_argument("--index", type=int, default=0, help="which of several processes of this workload")
    parser.add_argument("--rate", type=float, default=20.0, help="calls per second, about")
    parser.add_argument("--poison", type=float, default=0.0, help="share of writes that the table refuses (W7)")
    parser.add_argument("--bug", default="", choices=["", *BUGS], help="to plant into this process")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    if args.name == POLLER:
        poll(args.history)
    elif args.name == AUDITOR:
        audit_again_and_again(args.history, args.seed)
    else:
        with planted(BUGS[args.bug]) if args.bug else contextlib.nullcontext():
            asyncio.run(run(args))
    return 0


if __name__ == "__main__":
    sys.exit(main())

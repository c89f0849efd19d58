"""`--workers N`: several flusher processes under one parent, which passes signals on and ends when one of them
fails.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from multiprocessing.connection import wait
from types import FrameType

from writebehind.shared.errors import WritebehindError
from writebehind.shared.registry import load
from writebehind.shared.settings import Settings


def supervise(settings: Settings) -> int:
    """Run `settings.flusher.workers` processes.

    Returns 0 when all stopped on a signal, 2 when one could not run as it is configured, 1 when one failed otherwise.
    """
    context = multiprocessing.get_context("spawn")  # Kafka clients do not survive a fork
    workers = [
        context.Process(target=_work, args=(_alone(settings, number),), name=f"flusher-{number}")
        for number in range(settings.flusher.workers)
    ]
    stopping = False

    def forward(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        for worker in workers:
            if worker.pid is not None and worker.is_alive():
                worker.terminate()

    for worker in workers:
        worker.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    while running := [worker for worker in workers if worker.is_alive()]:
        wait([worker.sentinel for worker in running], timeout=1)
        if any(worker.exitcode for worker in workers) and not stopping:
            forward(signal.SIGTERM, None)
    # A worker that was told to stop before it listened to signals has ended by the signal: nothing was begun.
    failed = {worker.exitcode for worker in workers} - {0, -signal.SIGTERM if stopping else 0}
    return 0 if not failed else 2 if failed == {2} else 1


def _alone(settings: Settings, number: int) -> Settings:
    """The settings of one worker: two members of a group must not have the same name, nor two servers one port."""
    name = settings.flusher.instance_id
    own = {
        "workers": 1,
        "instance_id": None if name is None else f"{name}-{number}",
        "health_address": _own_address(settings.flusher.health_address, number),
    }
    return settings.model_copy(update={"flusher": settings.flusher.model_copy(update=own)})


def _own_address(address: str, number: int) -> str:
    """Each worker answers for itself, at the port after that of the one before."""
    host, _, port = address.rpartition(":")
    return address if port in ("off", "0") else f"{host}:{int(port) + number}"


def _work(settings: Settings) -> None:
    from .app import run
    from .logs import configure_logging

    configure_logging(settings.log)
    try:
        sys.exit(run(settings, load(settings.entities)))
    except WritebehindError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

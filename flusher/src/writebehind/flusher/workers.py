"""`--workers N`: several flusher processes under one parent, which passes signals on and ends when one of them
fails.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from multiprocessing.connection import wait
from types import FrameType

from writebehind.shared.registry import load
from writebehind.shared.settings import Settings


def supervise(settings: Settings) -> int:
    """Run `settings.flusher.workers` processes. Returns 0 when all stopped on a signal, 1 when one failed."""
    context = multiprocessing.get_context("spawn")  # Kafka clients do not survive a fork
    alone = settings.model_copy(update={"flusher": settings.flusher.model_copy(update={"workers": 1})})
    workers = [
        context.Process(target=_work, args=(alone,), name=f"flusher-{n}") for n in range(settings.flusher.workers)
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
    return 1 if any(worker.exitcode not in (0, -signal.SIGTERM if stopping else 0) for worker in workers) else 0


def _work(settings: Settings) -> None:
    from .app import run
    from .logs import configure_logging

    configure_logging()
    sys.exit(run(settings, load(settings.entities)))

"""After an outage of the cache: whether what is found there may be older than writes that went around it."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import closing

from confluent_kafka import KafkaException

from writebehind.shared.settings import Settings

from .backlog import Backlog

log = logging.getLogger("writebehind.producer")

SLACK_S = 1.0  # for threads and tasks that wake late
AGAIN_S = 0.25  # between two questions
TELL_S = 30.0  # between two warnings


class Doubt:
    """Begins with the first answer after an outage. It is over when

    1. every writer has found the cache again: each breaker has let a call through; and
    2. flushers have carried out all that was in Kafka then, also of writers that are no more.

    One thread, while it lasts. `open` is read without a lock.
    """

    def __init__(self, settings: Settings) -> None:
        self._backlog = Backlog(settings)
        # A writer's last probe may have failed a moment after we had our answer.
        self._writers_s = settings.cache.breaker_open_s + settings.cache.budget_s + SLACK_S
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._began = 0.0
        self.open = False

    def begin(self) -> None:
        """Or begin anew."""
        with self._lock:
            self._began = time.monotonic()
            if self.open:
                return
            self.open = True
        log.info("the cache was away: its entries are not served until all invalidations of that time are carried out")
        threading.Thread(target=self._run, name="writebehind doubt", daemon=True).start()

    def close(self) -> None:
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            began = self._began
            if not self._closed.wait(max(0.0, began + self._writers_s - time.monotonic())) and began == self._began:
                with closing(self._backlog):
                    self._wait_for_flushers(began)
            with self._lock:
                if began == self._began and not self._closed.is_set():
                    self.open = False
                    break

    def _wait_for_flushers(self, began: float) -> None:
        """Until it is so, we are closed, or it begins anew."""
        ends: dict[int, int] = {}
        told_at = time.monotonic()
        while True:
            try:
                standings = self._backlog.standings()
                for number, standing in standings.items():
                    ends.setdefault(number, standing.end)
                left = sum(max(0, ends[number] - standing.done) for number, standing in standings.items())
                if not left:
                    return
                why = f"{left} invalidations wait for a flusher"
            except Exception as error:  # noqa: BLE001  # whatever it is, it is asked again
                name = error.args[0].name() if isinstance(error, KafkaException) else type(error).__name__
                why = f"the broker does not say what flushers have carried out ({name})"
            if time.monotonic() - told_at >= TELL_S:
                told_at = time.monotonic()
                log.warning("entries of the cache are not served since %.0f s: %s", told_at - began, why)
            if self._closed.wait(AGAIN_S) or began != self._began:
                return

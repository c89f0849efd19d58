"""What happened when: the faults of a run, and how much was flushed, seen from a thread of its own."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from confluent_kafka import Consumer, KafkaException

from tests.faults.checkers_cache import Window
from tests.faults.schedule import Planned
from tests.faults.world import Place, World

EVERY_S: Final = 0.25
_CACHE_MARGIN_S: Final = 3.0  # a circuit breaker keeps writes from the cache for a moment after it is back


@dataclass(slots=True)
class Incident:
    """One fault as it went. Times are monotonic; `target` is the end of the logs when the fault was over.

    Recovered: what was in them by then is flushed, and the invalidations are carried out.
    """

    planned: Planned
    began: float
    ended: float | None = None
    note: str = ""
    failed: bool = False
    skipped: bool = False
    target: dict[Place, int] | None = None
    recovered: float | None = None

    @property
    def recovery_s(self) -> float | None:
        """From the end of the fault until all that had been written by then was flushed."""
        return None if self.ended is None or self.recovered is None else self.recovered - self.ended

    def window(self, now: float) -> Window:
        """When a read may have gone to a row that lags, or to an entry whose invalidation waits in Kafka.

        The margin is longer than a client that was cut off goes around the cache, or does not believe it.
        """
        return Window(self.began, (self.recovered or now) + _CACHE_MARGIN_S)


@dataclass(frozen=True, slots=True)
class Point:
    """Totals over all partitions at a moment."""

    at: float
    flushed: int
    written: int


@dataclass
class Timeline:
    """Samples progress until stopped."""

    world: World
    points: list[Point] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    trouble: str = ""  # why the last look failed

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="timeline", daemon=True)
        self._ends: dict[Place, int] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(30)

    def begin(self, planned: Planned) -> Incident:
        incident = Incident(planned, time.monotonic())
        self.incidents.append(incident)
        return incident

    @property
    def pending(self) -> list[Incident]:
        """Faults that are over and not recovered from."""
        return [i for i in self.incidents if i.ended is not None and i.recovered is None and not i.skipped]

    @property
    def settled(self) -> bool:
        """Whether everything that was written is flushed, as last seen."""
        return bool(self.points) and self.points[-1].flushed >= self.points[-1].written and not self.pending

    def _run(self) -> None:
        consumer, abandoned = self.world.consumer(), list[Consumer]()
        connection: psycopg.Connection[Any] | None = None
        try:
            while not self._stopping.wait(EVERY_S):
                try:
                    connection = connection or self.world.connect()
                    self._sample(consumer, connection)
                except psycopg.Error:
                    _close(connection)
                    connection = None
                except (KafkaException, TimeoutError) as error:
                    # One that saw its broker go may hang, or ask a leader it remembers, for ever. So may closing it.
                    self.trouble = f"{type(error).__name__}: {error}"
                    if isinstance(error, TimeoutError):
                        abandoned.append(consumer)  # a thread is still in it
                    else:  # an hour's worth of open ones would take a processor
                        threading.Thread(target=consumer.close, name="closing", daemon=True).start()
                    consumer = self.world.consumer()
                else:
                    self.trouble = ""
        finally:
            _close(connection)
            consumer.close()

    def _sample(self, consumer: Consumer, connection: psycopg.Connection[Any]) -> None:
        # Ends first: what is flushed is then never compared with an end that it has passed meanwhile.
        asked = time.monotonic()
        ends = self.world.ends(consumer)
        flushed = self.world.flushed(connection) | self.world.invalidated(consumer)
        now = time.monotonic()
        self.points.append(Point(now, sum(flushed.values()), sum(ends.values())))
        for incident in self.pending:
            if incident.target is None and incident.ended is not None and asked >= incident.ended:
                incident.target = ends
            target = incident.target
            if target is not None and all(flushed.get(place, 0) >= end for place, end in target.items()):
                incident.recovered = now


def _close(connection: psycopg.Connection[Any] | None) -> None:
    if connection is not None:
        connection.close()

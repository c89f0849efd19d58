"""How far the database is behind: of partitions that are ours only, and without waiting for anybody."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from opentelemetry.metrics import Observation

from writebehind.shared import telemetry

from .claims import Place
from .lane import Lane
from .measures import Measures
from .membership import Membership

_LATEST: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # the library declares no types here
ASK_EVERY_S = 5.0
ASK_S = 5.0  # longest answer of the broker


class Lag:
    """The gauges. `maintain` is called by the loop's thread, the rest by whoever collects.

    The ends of the logs are asked of the broker: what the consumer knows stands still while a partition is paused.
    """

    def __init__(
        self,
        membership: Membership,
        lanes: Sequence[Lane],
        admin: AdminClient,
        measures: Measures,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._membership = membership
        self._lanes = lanes
        self._admin = admin
        self._wall = wall
        self._ends: dict[Place, int] = {}
        self._asked: dict[Place, Future[Any]] = {}
        self._ask_at = 0.0
        measures.watch(telemetry.LAG_RECORDS, self.records)
        measures.watch(telemetry.LAG_AGE, self.ages)
        measures.watch(telemetry.OLDEST, self.oldest)
        measures.watch(telemetry.OWNED, self.owned)

    def maintain(self, now: float) -> None:
        """Ask for the logs' ends now and then, and take the answers that have come."""
        if self._asked and all(future.done() for future in self._asked.values()):
            answers, self._asked = self._asked, {}
            ends = {place: future.result().offset for place, future in answers.items() if future.exception() is None}
            # A broker that stays silent gives no exception there, but an offset below 0: no lag would be told.
            self._ends |= {place: end for place, end in ends.items() if end >= 0}
        elif not self._asked and now >= self._ask_at and self._membership.owned:
            self._ask_at = now + ASK_EVERY_S
            latest = {TopicPartition(*place): _LATEST for place in self._membership.owned}
            asked = self._admin.list_offsets(latest, request_timeout=ASK_S)
            self._asked = {(place.topic, place.partition): future for place, future in asked.items()}

    def records(self) -> Iterable[Observation]:
        for place, count in self._known().items():
            yield Observation(count, _of(place))

    def ages(self) -> Iterable[Observation]:
        """A partition whose lag is not consumed yet has no age: nobody has seen its oldest record."""
        pending = self._pending()
        for place, count in self._known().items():
            if place in pending or count == 0:
                yield Observation(pending.get(place, 0.0), _of(place))

    def oldest(self) -> Iterable[Observation]:
        ages = {lane.topic: 0.0 for lane in self._lanes}
        for (topic, _), age in self._pending().items():
            ages[topic] = max(ages[topic], age)
        for topic, age in ages.items():
            yield Observation(age, {telemetry.DESTINATION: topic})

    def owned(self) -> Iterable[Observation]:
        places = list(self._membership.owned.copy())
        for topic in {lane.topic for lane in self._lanes}:
            yield Observation(sum(place[0] == topic for place in places), {telemetry.DESTINATION: topic})

    def _known(self) -> dict[Place, int]:
        owned, ends = self._membership.owned.copy(), self._ends.copy()
        return {place: max(0, ends[place] - one.flushed) for place, one in owned.items() if place in ends}

    def _pending(self) -> dict[Place, float]:
        """The age of the oldest record that was consumed and is not committed, by partition."""
        owned, now = self._membership.owned.copy(), self._wall()
        ages: dict[Place, float] = {}
        for lane in self._lanes:
            for span in lane.pending():
                place = (lane.topic, span.partition)
                if place in owned and span.written_at:
                    ages[place] = max(ages.get(place, 0.0), now - span.written_at)
        return ages


def _of(place: Place) -> dict[str, str]:
    return {telemetry.DESTINATION: place[0], telemetry.PARTITION: str(place[1])}

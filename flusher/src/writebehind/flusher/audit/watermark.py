"""How far topics have come, and how far they are flushed: what tells a write under way from one that never was."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection

from confluent_kafka import Consumer, TopicPartition

from writebehind.producer import topic_logs
from writebehind.shared import naming
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.settings import Settings

from .. import servers
from ..progress import Ledger
from .outage import Outage
from .suspects import Ends

FRESH_S = 0.2  # how old an answer about progress may be: it only ever grows
ANSWER_S = 10.0  # longest answer of the broker


class Watermark:
    """Asks broker and database, and waits for them unless `stop` is set. A `Ledger` is closed by whoever made it.

    direct: entities that have no topic; theirs are the invalidations that went by way of Kafka.
    """

    def __init__(
        self, settings: Settings, ledger: Ledger, direct: Collection[str] = (), *, stop: threading.Event
    ) -> None:
        self._stop = stop
        self._prefix = settings.kafka.topic_prefix
        self._ledger = ledger
        self._direct = frozenset(direct)
        self._invalidations = Invalidations(settings) if direct else None
        self._progress: dict[str, tuple[float, Ends]] = {}
        self._known = False  # both have answered before: else they are not away, but not there

    def close(self) -> None:
        if self._invalidations is not None:
            self._invalidations.close()

    def ends(self, entity: str) -> Ends:
        """The end of each partition's log; 0 where nothing was ever written. Raises ConfigurationError."""
        return self._patiently(lambda: self._ends(entity))

    def _ends(self, entity: str) -> Ends:
        if self._invalidations is not None and entity in self._direct:
            return self._invalidations.ends()
        return {
            (s.log.topic_id, s.partition): 0 if s.log.start == s.log.end and s.stored is None else s.log.end
            for s in self._ledger.topic(naming.topic(self._prefix, entity))
            if s.log is not None
        }

    def progress(self, entity: str) -> Ends:
        """The offset below which everything is in the database, per partition that a flusher has claimed."""
        asked, known = self._progress.get(entity, (-FRESH_S, {}))
        if time.monotonic() - asked < FRESH_S:
            return known
        known = self._patiently(lambda: self._asked(entity))
        self._progress[entity] = (time.monotonic(), known)
        return known

    def _patiently(self, ask: Callable[[], Ends]) -> Ends:
        """Ask again and again while somebody is away."""
        outage = Outage(self._stop)
        while True:
            try:
                answer = ask()
            except ConfigurationError:
                if not self._known or outage.over():
                    raise
            else:
                self._known = True
                return answer

    def _asked(self, entity: str) -> Ends:
        if self._invalidations is not None and entity in self._direct:
            return self._invalidations.progress()
        return {
            (s.stored.topic_id, s.partition): s.stored.next_offset
            for s in self._ledger.topic(naming.topic(self._prefix, entity))
            if s.stored is not None and s.gap is None
        }


class Invalidations:
    """The topic of invalidations, and how far flushers have carried them out: as far as their group has committed."""

    def __init__(self, settings: Settings) -> None:
        self._topic = naming.invalidations_topic(settings.kafka.topic_prefix)
        self._broker = servers.Broker(settings)
        with self._broker.told():
            # Never joins its group: it is only asked for offsets.
            group = naming.invalidations_group(settings.flusher.group)
            self._consumer = Consumer({**self._broker.client_config(), "group.id": group})

    def close(self) -> None:
        self._consumer.close()

    def ends(self) -> Ends:
        """By partition. What nobody can read any more needs not be waited for."""
        return {place: 0 if start == end else end for place, (start, end) in self.logs().items()}

    def logs(self) -> dict[tuple[str, int], tuple[int, int]]:
        """The first offset and the next one, by partition."""
        with self._broker.told(poll=self._consumer.poll):
            found = topic_logs.logs(self._consumer, self._topic, ANSWER_S)
        return {(self._topic, partition): log for partition, log in found.items()}

    def progress(self) -> Ends:
        """By partition in which anything was committed."""
        with self._broker.told(poll=self._consumer.poll):
            found = topic_logs.partitions(self._consumer, self._topic, ANSWER_S)
            places = [TopicPartition(self._topic, partition) for partition in found]
            committed = self._consumer.committed(places, timeout=ANSWER_S)
        return {(place.topic, place.partition): place.offset for place in committed if place.offset >= 0}

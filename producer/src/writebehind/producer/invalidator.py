"""Invalidations that go to Kafka while the cache cannot be told. Shared by both clients; blocks the calling thread.

Its librdkafka producer is made when it is first needed: most services never do.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from writebehind.shared import naming
from writebehind.shared.invalidation import Invalidation
from writebehind.shared.settings import Settings

from .outbox import open_producer

log = logging.getLogger("writebehind.producer")

POLL_S = 0.05
CLOSE_S = 2.0


class Invalidator:
    """Puts invalidations on their topic."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.topic = naming.invalidations_topic(settings.kafka.topic_prefix)
        self._lock = threading.Lock()
        self._producer: Producer | None = None

    def send(self, invalidations: Sequence[Invalidation], timeout_s: float) -> bool:
        """Wait until the broker has them all. False when it had not in time; it may get them later."""
        left, failed = len(invalidations), False

        def answered(error: KafkaError | None, _message: Message) -> None:
            nonlocal left, failed
            left -= 1
            failed = failed or error is not None

        deadline = time.monotonic() + timeout_s
        try:
            producer = self._opened()
            for one in invalidations:
                producer.produce(self.topic, one.encode(), one.place, on_delivery=answered)
            while left and time.monotonic() < deadline:
                producer.poll(POLL_S)
        except (KafkaException, BufferError) as error:
            log.warning("invalidations were not handed over (%s)", type(error).__name__)
            return False
        return left == 0 and not failed

    def close(self) -> None:
        """Give what is under way a moment."""
        with self._lock:
            producer = self._producer
        if producer is not None:
            producer.flush(CLOSE_S)

    def _opened(self) -> Producer:
        with self._lock:
            if self._producer is None:
                self._producer = open_producer(self._settings, **{"linger.ms": 0})
            return self._producer

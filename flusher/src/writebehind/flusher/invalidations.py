"""Carries out the invalidations that writers left in Kafka because they could not tell the cache.

Each is tried until it succeeds, and its offset is committed only then. They are idempotent, so the group's offsets are
progress enough: what is read twice is invalidated twice, which costs a miss. Order per entry is the partition's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from itertools import groupby

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from redis.exceptions import RedisError

from writebehind.shared import direct, naming, scripts
from writebehind.shared.invalidation import Invalidation, decode
from writebehind.shared.settings import Settings

from .cache import connect, evaluate
from .membership import group_config

log = logging.getLogger("writebehind.flusher")

BATCH_MAX = 500
POLL_S = 0.5
RETRY_MIN_S, RETRY_MAX_S = 0.05, 0.25  # readers do without the cache only for so long after it is back


class NotKept(Exception):
    """The cache is full: it deleted the entry, but keeps no intent in its place."""


class Applier:
    """Carries invalidations out. `now_us` is the clock of whoever calls."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.cache.prefix
        self._client = connect(settings.cache, "writebehind-invalidations")

    def apply(self, invalidations: Sequence[Invalidation], now_us: int) -> None:
        """In order. Raises RedisError or OSError; then all of them are to be carried out again."""
        for (forget, open_), group in groupby(invalidations, key=lambda one: (one.forget, one.until_us > now_us)):
            batch = list(group)
            keys = [naming.cache_key(self._prefix, one.entity, one.key) for one in batch]
            tokens = [one.token for one in batch]
            if forget:
                evaluate(self._client, scripts.forget(keys))
                continue
            if not open_:  # the writer is done, or its time is over
                evaluate(self._client, direct.void(keys, tokens))
                continue
            life_us = max(one.until_us for one in batch) - now_us
            if not all(direct.read_flags(evaluate(self._client, direct.intend(keys, tokens, life_us=life_us)))):
                raise NotKept

    def close(self) -> None:
        self._client.close()


class Invalidations:
    """The consumer, in a thread of its own: the cache may be away for hours without holding up a batch."""

    def __init__(self, settings: Settings) -> None:
        self._applier = Applier(settings)
        self._topic = naming.invalidations_topic(settings.kafka.topic_prefix)
        self._consumer = Consumer(
            {
                # Readers are told old rows for as long as a dead flusher keeps partitions of these.
                **group_config(settings, naming.invalidations_group(settings.flusher.group)),
                "client.id": "writebehind-invalidations",
                "auto.offset.reset": "earliest",  # an entry forgotten twice is a miss, one never forgotten is wrong
            },
            logger=log,
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="invalidations", daemon=True)
        self.failure: BaseException | None = None  # ends the process

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """What is not carried out is read again by the next owner."""
        self._stopping.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._consumer.subscribe([self._topic])
            while not self._stopping.is_set():
                self._step()
            self._consumer.close()
            self._applier.close()
        except BaseException as error:  # noqa: BLE001  # the process ends on it
            self.failure = error

    def _step(self) -> None:
        messages = [message for message in self._consumer.consume(BATCH_MAX, POLL_S) if self._is_record(message)]
        if messages and self._carry_out([one for message in messages if (one := _decoded(message)) is not None]):
            self._commit(messages)

    def _carry_out(self, invalidations: Sequence[Invalidation]) -> bool:
        """Until it succeeds. False when we are to stop before."""
        delay_s = RETRY_MIN_S
        while not self._stopping.is_set():
            try:
                self._applier.apply(invalidations, time.time_ns() // 1000)
                return True
            except (RedisError, OSError, NotKept) as error:
                level = logging.WARNING if delay_s == RETRY_MIN_S else logging.DEBUG
                log.log(level, "%d invalidations wait for the cache (%s)", len(invalidations), type(error).__name__)
            self._stay_in_group(delay_s)
            delay_s = min(2 * delay_s, RETRY_MAX_S)
        return False

    def _stay_in_group(self, seconds: float) -> None:
        """Wait, polling: a member that does not poll loses its partitions. Paused partitions give no messages."""
        assigned = self._consumer.assignment()
        if assigned:
            self._consumer.pause(assigned)
        self._stopping.wait(seconds)
        self._consumer.poll(0)
        assigned = self._consumer.assignment()
        if assigned:
            self._consumer.resume(assigned)

    def _commit(self, messages: Sequence[Message]) -> None:
        ends = {(m.topic() or "", m.partition() or 0): (m.offset() or 0) + 1 for m in messages}
        offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in ends.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            log.info("invalidations will be carried out once more (%s)", error.args[0].name())

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.fatal():
            raise KafkaException(error)
        log.warning("%s: %s", self._topic, error.name())
        return False


def _decoded(message: Message) -> Invalidation | None:
    try:
        return decode(message.value() or b"")
    except ValueError:
        place = f"{message.topic()}/{message.partition()}/{message.offset()}"
        log.error("%s is not an invalidation; it is skipped: its entry may be old until it expires", place)
        return None

"""The outbox: records on their way to the broker. One librdkafka producer and one poll thread per client.

Shared by the asynchronous and the synchronous client. Delivery reports of one poll round are handed over together:
waking an
event loop once per record would cost more than the record.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.admin._resource import ResourceType

from writebehind.shared.errors import ConfigurationError
from writebehind.shared.settings import Settings, kafka_client_config, options_refused

from .measures import SAMPLE_S, of_process
from .write import Write

log = logging.getLogger("writebehind.producer")

POLL_S = 0.2


class Outbox:
    """Hands records to librdkafka and counts what is in flight.

    `deliver` gets the writes of a poll round, in the poll thread.
    """

    def __init__(self, settings: Settings, deliver: Callable[[Sequence[Write]], None]) -> None:
        self._limits = limits = settings.producer
        self._records_max, self._bytes_max = limits.max_in_flight, limits.max_in_flight_bytes
        self._deliver = deliver
        self._producer = open_producer(settings)
        self._client_config = kafka_client_config(settings)
        self._done: list[Write] = []
        self._note = self._done.append
        self._lock = threading.Lock()
        self._records = 0
        self._bytes = 0
        self._answered_at = time.monotonic()
        self._room = threading.Condition(self._lock)
        self._measures = of_process()
        self._timed: Write | None = None  # a record that is timed, or was a moment ago
        self._timed_at = 0.0  # when it was handed over
        self._told_at: float | None = None  # when how long it took was told
        self._closing = False
        self._thread = threading.Thread(target=self._poll, name="writebehind outbox", daemon=True)
        self._thread.start()

    @property
    def in_flight(self) -> int:
        """Records handed over and not answered."""
        return self._records

    @property
    def in_flight_bytes(self) -> int:
        """The same in bytes."""
        return self._bytes

    @property
    def utilization(self) -> float:
        """How much of the room is taken, from 0 to 1; a record larger than all of it may go alone."""
        return max(self._records / self._records_max, self._bytes / self._bytes_max)

    @property
    def broker_down(self) -> bool:
        """Records wait, and none was answered for a while."""
        return self._records > 0 and time.monotonic() - self._answered_at > self._limits.broker_down_after_s

    def reserve(self, records: int, size_bytes: int, timeout_s: float) -> bool:
        """Take room for records, blocking the calling thread until there is some. False when there was none in time."""
        with self._lock:  # that of the condition, which would take five times as long to take it
            if not self._records:
                self._answered_at = time.monotonic()
            elif not self._fits(records, size_bytes) and (
                timeout_s <= 0 or not self._room.wait_for(lambda: self._fits(records, size_bytes), timeout_s)
            ):
                return False
            self._records += records
            self._bytes += size_bytes
            return True

    def release(self, writes: Sequence[Write]) -> None:
        """Give back the room of writes that were answered, or never handed over."""
        with self._lock:
            self._records -= len(writes)
            self._bytes -= sum([write.size_bytes for write in writes])
            self._room.notify_all()

    def _fits(self, records: int, size_bytes: int) -> bool:
        if self._records == 0:
            return True  # even what is larger than the bound can go alone
        return self._records + records <= self._records_max and self._bytes + size_bytes <= self._bytes_max

    def send(self, write: Write, record: bytes) -> None:
        """Hand one record over. Raises KafkaException, or BufferError, when librdkafka does not take it: definite."""
        write.on_delivery = self._note
        if self._timed is None:
            self._timed, self._timed_at = write, time.monotonic()
        # By place, as names take as long again: any partition, the delivery report and its other name, the time of now.
        self._producer.produce(write.target.topic, record, write.key_text, -1, write, None, 0, write.headers)

    def check_topic(self, topic: str) -> None:
        """Look at a topic before its first use.

        Raises ConfigurationError; a broker that does not answer is no finding.
        """
        # For these questions only: one that stayed would hold connections, and report on its own when the broker goes.
        admin = AdminClient(self._client_config, logger=log)
        try:
            known = self._producer.list_topics(topic, timeout=2).topics[topic]
            settings = (
                admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)], request_timeout=2)
                if known.error is None
                else {}
            )
            required = max(
                (int(future.result()["min.insync.replicas"].value) for future in settings.values()), default=1
            )
        except (KafkaException, KeyError):
            return
        if known.error is not None:
            if known.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise ConfigurationError(f"there is no topic {topic!r}: create it with `writebehind migrate`")
            if known.error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise ConfigurationError(
                    f"topic {topic!r} may not be written: `writebehind grants --role producer` prints what that takes"
                )
            return
        replicas = min((len(partition.replicas) for partition in known.partitions.values()), default=1)
        if required > replicas:
            raise ConfigurationError(
                f"topic {topic!r} asks for min.insync.replicas={required} and has {replicas} "
                f"replicas: no write could ever be acknowledged; "
                "lower the one or raise the other"
            )

    def end_offset(self, topic: str, partition: int) -> int | None:
        """The offset at which a partition's log ends now, or None when the broker does not say."""
        place = TopicPartition(topic, partition)
        admin = AdminClient(self._client_config, logger=log)
        try:
            latest: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]
            end = admin.list_offsets({place: latest}, request_timeout=2)[place].result().offset
        except KafkaException:
            return None
        return int(end) if end >= 0 else None  # a time-out may be told as an offset of -1001

    def close(self, timeout_s: float) -> None:
        """Wait for what is in flight, then give up: what was never sent fails for certain, the rest is unknown."""
        with self._room:
            self._room.wait_for(lambda: self._records == 0, timeout_s)
        if self._records:
            self._producer.purge(in_queue=True, in_flight=True, blocking=True)
            with self._room:
                self._room.wait_for(lambda: self._records == 0, 5.0)
        self._closing = True
        self._thread.join(POLL_S + 5.0)

    def _poll(self) -> None:
        while not self._closing:
            try:
                self._producer.poll(POLL_S)
            except KafkaException as error:
                # A fatal error, which is raised here once. librdkafka takes nothing any more, and writes are told so.
                log.critical(
                    "kafka: %s: no write will be taken until this client is opened again", error.args[0].name()
                )
            if self._done:
                # Callbacks run inside poll only, so nobody appends while the list is taken.
                done = self._done.copy()
                self._done.clear()
                self._answered_at = time.monotonic()
                self._deliver(done)
                self.release(done)
                self._measure(done)

    def _measure(self, done: Sequence[Write]) -> None:
        """After the callers were told, so that they do not wait for it."""
        self._measures.answered(done)
        write = self._timed
        if write is None or not write.ended:
            return
        if self._told_at is None:
            self._told_at = self._answered_at
            if write.failure is None:
                self._measures.answered_after(write, self._answered_at - self._timed_at)
        elif self._answered_at >= self._told_at + SAMPLE_S:
            self._timed = self._told_at = None


def open_producer(settings: Settings, **extra: object) -> Producer:
    """Raises ConfigurationError when librdkafka does not take the options."""
    try:
        return Producer({**producer_config(settings), **extra}, logger=log)
    except KafkaException as error:
        if error.args[0].code() == KafkaError._INVALID_ARG and settings.kafka.options:
            raise options_refused(settings) from None
        raise


def producer_config(settings: Settings) -> dict[str, object]:
    """librdkafka's settings for the producer; what the protocol depends on cannot be overridden."""
    limits = settings.producer
    return {
        "linger.ms": limits.linger_ms,
        "delivery.timeout.ms": int(limits.delivery_timeout_s * 1000),
        **kafka_client_config(settings),
        # We bound what is in flight ourselves and tell the caller; librdkafka's own bound must never be the first.
        "queue.buffering.max.messages": 0,
        "queue.buffering.max.kbytes": limits.max_in_flight_bytes // 1024 * 4,
        "message.max.bytes": settings.kafka.max_message_bytes,
        "client.id": "writebehind-producer",
        "acks": "all",
        "enable.idempotence": True,
        # With more, a request that fails makes those behind it fail out of order; librdkafka then starts a new epoch
        # and writes again what the broker had already (librdkafka#4953: a broker killed under load doubled increments).
        "max.in.flight.requests.per.connection": 1,
        "partitioner": "murmur2_random",
        "allow.auto.create.topics": False,
        "error_cb": _log_error,
    }


def _log_error(error: KafkaError) -> None:
    log.warning("kafka: %s", error.name())

"""How much of what writers left in Kafka is not carried out yet. Blocks the calling thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from writebehind.shared import naming
from writebehind.shared.settings import Settings, kafka_client_config

ANSWER_S = 5.0  # longest answer of the broker
ALL_S = 30.0  # and of all of them together


class Standing(NamedTuple):
    """A partition's log, and the offset below which everything is carried out, or can be read by nobody any more."""

    done: int
    end: int


class Backlog:
    """Asks the broker about the topic of invalidations and the flushers' group, which commits what it carried out."""

    def __init__(self, settings: Settings) -> None:
        self._topic = naming.invalidations_topic(settings.kafka.topic_prefix)
        self._group = naming.invalidations_group(settings.flusher.group)
        self._config = {
            **kafka_client_config(settings),
            "group.id": self._group,  # never joined: only asked for its offsets
            "enable.auto.commit": False,
            "allow.auto.create.topics": False,
            "log_level": 2,
        }

    def standings(self) -> Mapping[int, Standing]:
        """By partition; none when there is no such topic. Raises KafkaException, TimeoutError."""
        # A consumer's own time-out does not always hold when the broker goes away meanwhile (librdkafka#2588): then a
        # thread is left behind. No AdminClient: one after the other, they end the process now and then (SIGSEGV).
        answers: queue.SimpleQueue[Mapping[int, Standing] | Exception] = queue.SimpleQueue()
        threading.Thread(target=self._tell, args=(answers,), name="writebehind backlog", daemon=True).start()
        try:
            answer = answers.get(timeout=ALL_S)
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _tell(self, answers: queue.SimpleQueue[Mapping[int, Standing] | Exception]) -> None:
        try:
            consumer = Consumer(self._config)
            try:
                answers.put(self._asked(consumer))
            finally:
                consumer.close()
        except Exception as error:  # noqa: BLE001  # whoever asked raises it
            answers.put(error)

    def _asked(self, consumer: Consumer) -> Mapping[int, Standing]:
        places = [TopicPartition(self._topic, number) for number in self._partitions(consumer)]
        if not places:
            return {}
        committed = {one.partition: one.offset for one in consumer.committed(places, timeout=ANSWER_S)}
        logs = {place.partition: consumer.get_watermark_offsets(place, timeout=ANSWER_S) for place in places}
        return {number: Standing(max(start, committed[number]), end) for number, (start, end) in logs.items()}

    def _partitions(self, consumer: Consumer) -> list[int]:
        found = consumer.list_topics(self._topic, timeout=ANSWER_S).topics[self._topic]
        if found.error is None:
            return list(found.partitions)
        if found.error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            return []
        raise KafkaException(found.error)

"""How much of what writers left in Kafka is not carried out yet. Blocks the calling thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

from writebehind.shared import naming
from writebehind.shared.settings import Settings, kafka_client_config

from . import topic_logs

ANSWER_S = 5.0  # longest answer of the broker
ALL_S = 30.0  # and of all of them together

Answers = queue.SimpleQueue["Mapping[int, Standing] | Exception"]


class Standing(NamedTuple):
    """A partition's log, and the offset below which everything is carried out, or can be read by nobody any more."""

    done: int
    end: int


class Backlog:
    """Asks the broker about the topic of invalidations and the flushers' group, which commits what it carried out.

    For one thread. It keeps a client from the first question to `close`.
    """

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
        self._consumer: Consumer | None = None

    def close(self) -> None:
        """Give the client back; a next question makes one anew."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def standings(self) -> Mapping[int, Standing]:
        """By partition; none when there is no such topic. Raises KafkaException, TimeoutError."""
        # A consumer's own time-out does not always hold when the broker goes away meanwhile (librdkafka#2588): then it
        # is left behind, with a thread. Not AdminClient.list_consumer_group_offsets(): asked by several threads, it
        # ends the process now and then (SIGSEGV, confluent-kafka 2.16).
        if self._consumer is None:
            self._consumer = Consumer(self._config)
        answers: Answers = queue.SimpleQueue()
        asking = threading.Thread(
            target=self._tell, args=(self._consumer, answers), name="writebehind backlog", daemon=True
        )
        asking.start()
        try:
            answer = answers.get(timeout=ALL_S)
        except queue.Empty:
            self._consumer = None
            raise TimeoutError from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _tell(self, consumer: Consumer, answers: Answers) -> None:
        try:
            answers.put(self._asked(consumer))
        except Exception as error:  # noqa: BLE001  # whoever asked raises it
            answers.put(error)

    def _asked(self, consumer: Consumer) -> Mapping[int, Standing]:
        logs = topic_logs.logs(consumer, self._topic, ANSWER_S)
        if not logs:
            return {}
        places = [TopicPartition(self._topic, number) for number in logs]
        committed = {one.partition: one.offset for one in consumer.committed(places, timeout=ANSWER_S)}
        return {number: Standing(max(start, committed[number]), end) for number, (start, end) in logs.items()}

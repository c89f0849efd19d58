"""How much of what writers left in Kafka is not carried out yet. Blocks the calling thread."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from writebehind.shared import naming
from writebehind.shared.settings import Settings, kafka_client_config

log = logging.getLogger("writebehind.producer")

ANSWER_S = 5.0  # longest answer of the broker


class Standing(NamedTuple):
    """A partition's log, and the offset below which everything is carried out, or can be read by nobody any more."""

    done: int
    end: int


class Backlog:
    """Asks the broker about the topic of invalidations and the flushers' group, which commits what it carried out."""

    def __init__(self, settings: Settings) -> None:
        self._topic = naming.invalidations_topic(settings.kafka.topic_prefix)
        self._group = naming.invalidations_group(settings.flusher.group)
        self._config = {**kafka_client_config(settings), "log_level": 2}

    def standings(self) -> Mapping[int, Standing]:
        """By partition; none when there is no such topic. Raises KafkaException, TimeoutError."""
        # A new one each time: after a broker was suspended or restarted, one goes on with leaders that it remembers. No
        # consumer, whose own time-out does not always hold when the broker goes away meanwhile (librdkafka#2588).
        admin = AdminClient(self._config, logger=log)
        places = [TopicPartition(self._topic, number) for number in self._partitions(admin)]
        if not places:
            return {}
        latest = self._offsets(admin, places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        earliest = self._offsets(admin, places, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        request = ConsumerGroupTopicPartitions(self._group, places)
        answer = admin.list_consumer_group_offsets([request], request_timeout=ANSWER_S)[self._group]
        committed = {one.partition: one.offset for one in answer.result(ANSWER_S).topic_partitions or ()}
        return {
            number: Standing(max(earliest[number], committed.get(number, 0)), end) for number, end in latest.items()
        }

    def _partitions(self, admin: AdminClient) -> list[int]:
        found = admin.list_topics(self._topic, timeout=ANSWER_S).topics[self._topic]
        if found.error is None:
            return list(found.partitions)
        if found.error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            return []
        raise KafkaException(found.error)

    def _offsets(self, admin: AdminClient, places: list[TopicPartition], spec: OffsetSpec) -> dict[int, int]:
        answers = admin.list_offsets(dict.fromkeys(places, spec), request_timeout=ANSWER_S)
        found = {place.partition: answer.result(ANSWER_S).offset for place, answer in answers.items()}
        if min(found.values()) < 0:  # a time-out may be told as an offset of -1001
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return found

"""What the broker says of a topic's partitions and their logs. Blocks the calling thread."""

from __future__ import annotations

import tenacity
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

#: A broker that starts or stops says these of partitions whose leader it does not know yet, or is no more.
NO_LEADER = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
    }
)


def watermarks(consumer: Consumer, topic: str, partition: int, timeout_s: float) -> tuple[int, int]:
    """A partition's first offset and the next one. Raises KafkaException.

    A partition without a leader is asked again for as long as one answer may take: brokers that start or stop have
    such for a moment.
    """
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_has_no_leader),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=1.0),
        stop=tenacity.stop_after_delay(timeout_s),
        reraise=True,
    )
    return attempts(consumer.get_watermark_offsets, TopicPartition(topic, partition), timeout=timeout_s)


def partitions(consumer: Consumer, topic: str, timeout_s: float) -> list[int]:
    """The partitions of a topic; none when it does not exist. Raises KafkaException."""
    known = consumer.list_topics(topic, timeout=timeout_s).topics[topic]
    if known.error is None:
        return sorted(known.partitions)
    if known.error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
        return []
    raise KafkaException(known.error)


def logs(consumer: Consumer, topic: str, timeout_s: float) -> dict[int, tuple[int, int]]:
    """`watermarks` of all partitions of a topic; empty when it does not exist. Raises KafkaException."""
    found = partitions(consumer, topic, timeout_s)
    return {partition: watermarks(consumer, topic, partition, timeout_s) for partition in found}


def _has_no_leader(error: BaseException) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() in NO_LEADER

"""What a delivery report means for the caller. Pure, by error code.

librdkafka knows whether a message may have been stored (`rd_kafka_message_status`), but the Python binding does not
show it.
So only the errors that no attempt of the same message can have escaped count as definite; every other one is unknown.
"""

from __future__ import annotations

from confluent_kafka import KafkaError

DEFINITE = frozenset(
    {
        KafkaError._UNKNOWN_TOPIC,  # there is no such topic, the broker says
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,  # we may not write there
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.MSG_SIZE_TOO_LARGE,  # larger than the topic allows
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,  # the broker's own validation
        KafkaError.POLICY_VIOLATION,
        KafkaError._QUEUE_FULL,  # never handed over
    }
)
# Unknown, among others: _MSG_TIMED_OUT (sent and not answered, or never sent: the binding does not tell which),
# _PURGE_INFLIGHT, _PURGE_QUEUE (it may wait there for another attempt), NOT_ENOUGH_REPLICAS_AFTER_APPEND, and
# NOT_ENOUGH_REPLICAS (an earlier attempt may have been stored).


def is_definite(error: KafkaError) -> bool:
    """Whether the message was certainly not stored."""
    return error.code() in DEFINITE

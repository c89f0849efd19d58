"""Records of one key that are in Kafka and not in the database yet. Assigns its partition by hand, joins no group."""

from __future__ import annotations

from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from writebehind.shared.record import GENERATION, VERSION, BadRecord, Codec
from writebehind.shared.settings import Settings

from .. import servers

ANSWER_S = 10.0  # longest silence of the broker
RECORDS_MAX = 1_000_000  # looked at: a partition may lag by more than anybody wants to wait for


@dataclass(frozen=True, slots=True)
class Record:
    """One of them. Version and generation are None when it cannot be read."""

    partition: int
    offset: int
    version: int | None
    generation: int | None


@dataclass(frozen=True, slots=True)
class Unflushed:
    """What was found; `looked_at` of `behind` records of the partition."""

    records: list[Record]
    looked_at: int
    behind: int


def find(
    settings: Settings, codec: Codec | None, topic: str, partition: int, key: bytes, start: int, end: int
) -> Unflushed:
    """The key's records from offset `start` up to `end`; their values only with a codec. Raises ConfigurationError."""
    found, looked_at = list[Record](), 0
    stop = min(end, start + RECORDS_MAX)
    if start >= stop:
        return Unflushed([], 0, 0)
    broker = servers.Broker(settings)
    with broker.told():
        consumer = Consumer(
            {
                **broker.client_config(),
                "group.id": "writebehind-whereis",  # never joined
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "allow.auto.create.topics": False,
            }
        )
    try:
        with broker.told(f"{topic}[{partition}] cannot be read", consumer.poll):
            consumer.assign([TopicPartition(topic, partition, start)])
            at = start
            while at < stop:
                messages = consumer.consume(5_000, ANSWER_S)
                if not messages:
                    break
                for message in messages:
                    if (error := message.error()) is not None:
                        if error.code() != KafkaError._PARTITION_EOF:
                            raise KafkaException(error)
                        at = stop
                        continue
                    at = (message.offset() or 0) + 1
                    looked_at += 1
                    if message.key() == key and at <= end:
                        found.append(_record(codec, partition, at - 1, message.value()))
    finally:
        consumer.close()
    return Unflushed(found, min(looked_at, stop - start), end - start)


def _record(codec: Codec | None, partition: int, offset: int, value: bytes | None) -> Record:
    if codec is None:
        return Record(partition, offset, None, None)
    try:
        (row,) = codec.decode([value])
    except BadRecord:
        return Record(partition, offset, None, None)
    return Record(partition, offset, row[VERSION], row[GENERATION])

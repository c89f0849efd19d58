"""Where the logs of partitions begin and end, asked in a way that always comes to an end."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

Place = tuple[str, int]  # topic, partition

ANSWER_S = 5.0  # longest answer of the broker

# confluent-kafka leaves these calls without annotations.
EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # as said above
LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # as said above


def bounds(admin: AdminClient, places: Sequence[Place]) -> dict[Place, tuple[int, int]]:
    """First offset and end of each partition. Raises KafkaException or TimeoutError when the broker does not tell.

    Not the consumer's get_watermark_offsets(): it asks for one partition after the other, and has no time-out that
    holds. A broker that was suspended at that moment left it hanging for good (librdkafka#2588, #4878).
    """
    asked = [
        admin.list_offsets({TopicPartition(*place): spec for place in places}, request_timeout=ANSWER_S)
        for spec in (EARLIEST, LATEST)
    ]
    starts, ends = (
        {(at.topic, at.partition): future.result(2 * ANSWER_S).offset for at, future in futures.items()}
        for futures in asked
    )
    return {place: (starts[place], ends[place]) for place in places}

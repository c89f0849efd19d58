"""Reading dead-letter topics from end to end. Assigns partitions by hand, joins no group, commits nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from writebehind.producer import topic_logs
from writebehind.shared import naming
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.letter import NotALetter
from writebehind.shared.settings import Settings

from .. import servers
from .item import Message, parse

ANSWER_S = 10.0  # longest silence of the broker
MESSAGES_MAX = 500  # handed on at once
QUEUED_KB_MAX = 16 * 1024  # read ahead, and so the most that one hand-over holds

Bounds = dict[int, tuple[int, int]]  # first offset and end of each partition


class DeadLetters:
    """The dead-letter topics of `topics`, up to the ends they had when this was made.

    `foreign` counts messages without a letter's headers, by topic. Raises ConfigurationError.
    """

    def __init__(self, settings: Settings, topics: Iterable[str]) -> None:
        self._broker = servers.Broker(settings)
        with self._broker.told():
            self._consumer = Consumer(
                {
                    **self._broker.client_config(),
                    "group.id": "writebehind-letters",  # never joined
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "auto.offset.reset": "earliest",  # letters that expire while we read are not worth an error
                    "enable.partition.eof": True,
                    "allow.auto.create.topics": False,
                    "queued.max.messages.kbytes": QUEUED_KB_MAX,
                }
            )
        self.foreign: dict[str, int] = {}
        try:
            self._bounds = {topic: self._find_bounds(naming.dead_letter_topic(topic)) for topic in topics}
        except BaseException:
            self._consumer.close()
            raise

    @property
    def total(self) -> int:
        """How many messages a read will give, at the most."""
        return sum(end - first for bounds in self._bounds.values() for first, end in bounds.values())

    def exists(self, topic: str) -> bool:
        """Whether this topic of an entity has a dead-letter topic."""
        return bool(self._bounds.get(topic))

    def close(self) -> None:
        self._consumer.close()

    def read(self) -> Iterator[list[Message]]:
        """Every letter of every topic, in order within a partition."""
        self.foreign = {}
        for topic, bounds in self._bounds.items():
            name = naming.dead_letter_topic(topic)
            for messages in self._read(name, bounds):
                yield [letter for message in messages if (letter := self._parse(name, topic, message)) is not None]

    def _read(self, name: str, bounds: Bounds) -> Iterator[list[KafkaMessage]]:
        left = {number: end for number, (first, end) in bounds.items() if first < end}
        if not left:
            return
        with self._broker.told(f"{name} cannot be read", self._consumer.poll):
            self._consumer.assign([TopicPartition(name, number, bounds[number][0]) for number in left])
            while left:
                yield self._take(left, self._consume(name))

    def _consume(self, name: str) -> list[KafkaMessage]:
        first = self._consumer.poll(ANSWER_S)
        if first is None:
            raise ConfigurationError(f"{name} cannot be read: the broker gave nothing for {ANSWER_S:g} s")
        return [first, *self._consumer.consume(MESSAGES_MAX - 1, 0)]

    def _take(self, left: dict[int, int], messages: list[KafkaMessage]) -> list[KafkaMessage]:
        """The messages below their partition's end. Strikes off partitions that were read to it."""
        taken: list[KafkaMessage] = []
        for message in messages:
            number, offset, error = message.partition(), message.offset(), message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            if number is None or offset is None or number not in left:
                continue
            if error is None and offset < left[number]:
                taken.append(message)
            if error is not None or offset >= left[number] - 1:
                del left[number]
                # Letters may still come in. Not pause(): it outlives the assignment, and the next pass gets nothing.
                self._consumer.incremental_unassign([TopicPartition(message.topic() or "", number)])
        return taken

    def _parse(self, name: str, topic: str, message: KafkaMessage) -> Message | None:
        headers: Any = message.headers() or []
        source = f"{name}/{message.partition()}/{message.offset()}"
        try:
            letter = parse(message.key(), message.value(), headers, source)
        except NotALetter:
            letter = None
        if letter is None or letter.letter.origin.topic != topic:
            self.foreign[name] = self.foreign.get(name, 0) + 1
            return None
        return letter

    def _find_bounds(self, name: str) -> Bounds:
        """Empty when the topic does not exist."""
        with self._broker.told(poll=self._consumer.poll):
            return topic_logs.logs(self._consumer, name, ANSWER_S)

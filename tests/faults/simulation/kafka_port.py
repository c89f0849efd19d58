"""Consumer, admin client and letter producer, as far as the flusher uses them, over the broker in memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from .broker import Broker, Member, Message
from .world import Process, World

FETCH_MAX = 5  # records per answer: batches come in parts


def kafka_error(_flavour: int) -> KafkaException:
    return KafkaException(KafkaError(KafkaError._TRANSPORT))


class ConsumerPort:
    """A consumer of one process. Callbacks run inside `consume`, as librdkafka's do."""

    def __init__(self, world: World, broker: Broker, process: Process) -> None:
        self._world = world
        self._broker = broker
        self._process = process
        self._positions: dict[int, int] = {}  # of the partitions that are assigned
        self._paused: set[int] = set()
        self._callbacks: dict[str, Callable[[Any, list[TopicPartition]], None]] = {}
        self.member: Member | None = None

    def subscribe(self, _topics: Sequence[str], **callbacks: Any) -> None:
        self._callbacks = callbacks
        member = self.member = self._broker.join(self._process.name)
        self._process.on_end.append(lambda: self._broker.leave(member))

    def consume(self, _count: int, _timeout_s: float) -> list[Message]:
        self._process.check()
        self._rebalance()
        if not any(self._broker.logs[n][at:] for n, at in self._positions.items() if n not in self._paused):
            return []
        positions = dict(self._positions)
        try:
            return self._world.call(
                "consume", self._fetch, kafka_error, special=self._fetch_again, process=self._process
            )
        except KafkaException:
            self._positions = positions
            return []  # librdkafka reconnects by itself, and fetches again

    def _rebalance(self) -> None:
        assert self.member is not None
        target, current = set(self.member.target), set(self._positions)
        if self.member.lost:
            self.member.lost = False
            self._revoke("on_lost", current)
            current = set()
        self._revoke("on_revoke", current - target)
        if target - current:
            self._callbacks["on_assign"](self, [self._place(n) for n in sorted(target - current)])

    def _revoke(self, callback: str, partitions: set[int]) -> None:
        if partitions:
            self._callbacks[callback](self, [self._place(n) for n in sorted(partitions)])
            for number in partitions:
                self._positions.pop(number, None)
                self._paused.discard(number)

    def _fetch(self) -> list[Message]:
        fetched: list[Message] = []
        for number, position in self._positions.items():
            if number not in self._paused:
                part = self._broker.logs[number][position : position + FETCH_MAX]
                fetched += part
                self._positions[number] = position + len(part)
        return fetched

    def _fetch_again(self, flavour: int) -> list[Message]:
        """librdkafka has delivered offsets twice after an assignment (PostHog PR#95009)."""
        fetched = self._fetch()
        if flavour % 3 == 0:
            return [message for message in fetched for _ in range(2)]
        for number in self._positions:
            self._positions[number] = max(0, self._positions[number] - 1 - flavour % 3)
        return fetched + fetched if flavour % 2 else fetched

    def incremental_assign(self, places: Sequence[TopicPartition]) -> None:
        self._process.check()
        for place in places:
            self._positions[place.partition] = max(0, place.offset)

    def seek(self, place: TopicPartition) -> None:
        def effect() -> None:
            if place.partition not in self._positions:
                raise kafka_error(0)
            self._positions[place.partition] = place.offset

        self._world.call("seek", effect, kafka_error, process=self._process)

    def pause(self, places: Sequence[TopicPartition]) -> None:
        self._paused |= {place.partition for place in places}

    def resume(self, places: Sequence[TopicPartition]) -> None:
        self._paused -= {place.partition for place in places}

    def commit(self, **_options: Any) -> None:
        """Only lag tools read the group's offsets."""
        self._process.check()

    def get_watermark_offsets(self, place: TopicPartition, **_options: Any) -> tuple[int, int]:
        return self._world.call(
            "watermarks", lambda: (0, len(self._broker.logs[place.partition])), kafka_error, process=self._process
        )

    def _place(self, partition: int) -> TopicPartition:
        return TopicPartition(self._broker.topic, partition)


class AdminPort:
    """Answers which id the topic has. It is never recreated here."""

    def __init__(self, world: World, broker: Broker, process: Process) -> None:
        self._world = world
        self._broker = broker
        self._process = process

    def describe_topics(self, _topics: Any, **_options: Any) -> dict[str, Future[Any]]:
        try:
            return self._world.call("describe", self._broker.describe, kafka_error, process=self._process)
        except KafkaException as error:
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return {self._broker.topic: failed}


class LetterProducerPort:
    """A producer of dead letters: acknowledged when it is polled."""

    def __init__(self, world: World, broker: Broker, process: Process) -> None:
        self._world = world
        self._broker = broker
        self._process = process
        self._waiting: list[tuple[Message, Callable[[Any, Any], None]]] = []

    def produce(self, topic: str, *, key: Any, value: Any, headers: Any, on_delivery: Any) -> None:
        self._process.check()
        self._waiting.append((Message(topic, 0, 0, key, value, headers), on_delivery))

    def poll(self, _timeout_s: float) -> int:
        self._process.check()
        waiting, self._waiting = self._waiting, []
        for message, on_delivery in waiting:
            try:
                self._world.call(
                    "letter_sent", functools.partial(self._append, message), kafka_error, process=self._process
                )
            except KafkaException as error:
                on_delivery(error.args[0], message)
            else:
                on_delivery(None, message)
        return len(waiting)

    def purge(self, **_options: Any) -> None:
        self._waiting.clear()

    def flush(self, timeout_s: float = 0) -> int:
        self.poll(timeout_s)
        return 0

    def _append(self, message: Message) -> None:
        self._broker.letters.append(message)

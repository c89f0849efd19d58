"""The broker in memory: one topic's log, its consumer group, and the dead letters."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, KafkaError

PARTITIONS = 2
TOPIC_ID = "id"


class Message:
    """A message, by the methods of confluent-kafka's."""

    def __init__(
        self, topic: str, partition: int, offset: int, key: bytes, value: bytes, headers: Any = None, number: int = -1
    ) -> None:
        self._topic = topic
        self._partition = partition
        self._offset = offset
        self._key = key
        self._value = value
        self._headers = headers
        self.number = number  # of the write, for the checkers

    def error(self) -> KafkaError | None:
        return None

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes:
        return self._key

    def timestamp(self) -> tuple[int, int]:
        return TIMESTAMP_NOT_AVAILABLE, 0

    def value(self) -> bytes:
        return self._value

    def headers(self) -> Any:
        return self._headers


@dataclass(eq=False)
class Member:
    """A consumer in the group, and which partitions it should have."""

    name: str
    target: set[int] = field(default_factory=set)
    lost: bool = False  # thrown out while it was suspended; it learns that when it polls


class Broker:
    """Logs per partition. A partition of a key is its number modulo the partitions, which is all that matters here."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.logs: list[list[Message]] = [[] for _ in range(PARTITIONS)]
        self.late: list[Callable[[], object]] = []  # what a request that timed out still does
        self.letters: list[Message] = []
        self.members: list[Member] = []
        self._turn = 0

    def append(self, key: bytes, value: bytes, number: int) -> Message:
        partition = int(key) % PARTITIONS
        log = self.logs[partition]
        log.append(Message(self.topic, partition, len(log), key, value, None, number))
        return log[-1]

    def join(self, name: str) -> Member:
        member = Member(name)
        self.members.append(member)
        self.rebalance()
        return member

    def leave(self, member: Member) -> None:
        if member in self.members:
            self.members.remove(member)
            self.rebalance()

    def throw_out(self, member: Member) -> None:
        """The session time-out is over: others get its partitions, and it comes back as a new member."""
        if len(self.members) > 1 and member in self.members:
            member.lost = True
            self.members.remove(member)
            self.rebalance()
            self.members.append(member)

    def rebalance(self) -> None:
        """Give the partitions out anew, another way each time."""
        self._turn += 1
        for member in self.members:
            member.target = set()
        for partition in range(PARTITIONS):
            if self.members:
                self.members[(partition + self._turn) % len(self.members)].target.add(partition)

    def describe(self) -> dict[str, Future[Any]]:
        future: Future[Any] = Future()
        future.set_result(SimpleNamespace(topic_id=TOPIC_ID))
        return {self.topic: future}

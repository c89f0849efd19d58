"""The lag that is told of a partition: from what the broker said, never from its silence."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

from confluent_kafka import KafkaException, TopicPartition

from writebehind.flusher.lag import ASK_EVERY_S, Lag
from writebehind.flusher.measures import Measures
from writebehind.flusher.membership import Membership, Owned

OFFSET_INVALID = -1001  # what librdkafka fills in when nobody answers


class FakeAdmin:
    """Answers what it was given, in turn."""

    def __init__(self, *answers: int | Exception) -> None:
        self._answers = list(answers)

    def list_offsets(self, places: dict[TopicPartition, Any], **_: Any) -> dict[TopicPartition, Future[Any]]:
        future: Future[Any] = Future()
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(SimpleNamespace(offset=answer))
        return dict.fromkeys(places, future)


def test_a_broker_that_falls_silent_leaves_the_lag_as_it_was_last_known() -> None:
    membership = SimpleNamespace(owned={("t", 0): Owned(1, 40, "id", flushed=40)})
    admin = FakeAdmin(100, OFFSET_INVALID, KafkaException("down"), 50)
    lag = Lag(cast("Membership", membership), [], cast("Any", admin), Measures())
    told: list[list[float]] = []
    for number in range(4):
        now = number * ASK_EVERY_S
        lag.maintain(now)  # asks
        lag.maintain(now)  # takes the answer
        told.append([found.value for found in lag.records()])
    assert told == [[60], [60], [60], [10]]

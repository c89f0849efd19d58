"""What a delivery report means for the caller: `NotApplied` may only be said of what no attempt can have stored."""

from __future__ import annotations

from typing import Annotated

import pytest
from confluent_kafka import KafkaError

from writebehind.producer.delivery import is_definite
from writebehind.producer.write import Target, Write, check_update
from writebehind.shared.declaration import declaration_of
from writebehind.shared.entity import Entity, Key, WriteBehind
from writebehind.shared.errors import NotApplied, Unknown


class Player(Entity, table="players", strategy=WriteBehind()):
    id: Annotated[int, Key]
    name: str | None = None


def refused(code: int) -> Write:
    write = check_update(Target(declaration_of(Player), "t.", "wb"), 1, {"name": "secret"}, size_max=1_000_000)
    write.version = 77
    write.error = KafkaError(code)
    return write


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.POLICY_VIOLATION,
    ],
)
def test_what_the_broker_refused_was_not_applied(code: int) -> None:
    write = refused(code)
    assert is_definite(KafkaError(code))
    outcome = write.outcome()
    assert isinstance(outcome, NotApplied)
    assert KafkaError(code).name() in str(outcome)
    assert "secret" not in str(outcome)


@pytest.mark.parametrize(
    "code",
    [
        KafkaError._MSG_TIMED_OUT,
        KafkaError._PURGE_INFLIGHT,
        KafkaError._PURGE_QUEUE,  # it may have been sent before and be queued for another attempt
        KafkaError._TRANSPORT,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError._FATAL,
        99_999,  # a code of a later broker
    ],
)
def test_what_may_have_been_stored_is_unknown(code: int) -> None:
    outcome = refused(code).outcome()
    assert not is_definite(KafkaError(code))
    assert isinstance(outcome, Unknown)
    assert outcome.version == 77


def test_a_failure_from_before_the_hand_over_comes_first() -> None:
    write = refused(KafkaError._MSG_TIMED_OUT)
    write.failure = NotApplied("never handed over")
    assert write.outcome() is write.failure


def test_no_error_is_no_failure() -> None:
    write = refused(KafkaError._MSG_TIMED_OUT)
    write.error = None
    assert write.outcome() is None

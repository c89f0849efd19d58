"""What a delivery report means for the caller: `NotApplied` may only be said of what no attempt can have stored."""

from __future__ import annotations

import gc
import weakref
from typing import Annotated

import pytest
from confluent_kafka import KafkaError

from writebehind.producer.delivery import is_definite
from writebehind.producer.write import Target, Write, check_update
from writebehind.shared.declaration import declaration_of
from writebehind.shared.entity import Entity, Key, WriteBehind
from writebehind.shared.errors import NotApplied, RowMissing, Unknown


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
    write.fail(NotApplied("never handed over"))
    outcome = write.outcome()
    assert type(outcome) is NotApplied
    assert str(outcome) == "never handed over"


def raised(error: Exception, cause: Exception, write: Write) -> Exception:  # the frames lead to the write
    """An error with its cause, both with their frames."""

    def fail(what: Exception, why: Exception | None) -> None:
        raise what from why

    try:
        try:
            fail(cause, None)
        except type(cause) as why:
            fail(error, why)
    except type(error) as caught:
        return caught
    raise AssertionError


def test_each_caller_gets_a_failure_of_his_own_with_its_cause_and_all_it_tells() -> None:
    write, cause = refused(KafkaError._MSG_TIMED_OUT), OSError("down")
    write.fail(raised(RowMissing("no row", "WB001", "players_pkey"), cause, write))
    one, other = write.outcome(), write.outcome()
    assert one is not other
    assert isinstance(one, RowMissing)
    assert (str(one), one.sqlstate, one.constraint, one.__cause__) == ("no row", "WB001", "players_pkey", cause)


def test_a_write_that_failed_is_not_kept_by_the_error_that_its_caller_caught() -> None:
    def fail() -> list[weakref.ref[BaseException]]:
        write = refused(KafkaError._MSG_TIMED_OUT)
        write.fail(raised(NotApplied("never handed over"), OSError("down"), write))
        kept, outcome = write.failure, write.outcome()
        assert kept is not None
        assert outcome is not None
        try:
            raise outcome
        except NotApplied as error:
            return [weakref.ref(kept), weakref.ref(error)]

    gone = fail()
    gc.collect()  # it does not go through writes: what it frees was not held by one
    assert [one() for one in gone] == [None, None]


def test_nor_by_an_error_during_whose_handling_it_failed_for_another_reason() -> None:
    def fail() -> weakref.ref[BaseException]:
        write = refused(KafkaError._MSG_TIMED_OUT)
        error = raised(NotApplied("never handed over"), OSError("down"), write)
        error.__context__ = raised(KeyError("another"), OSError("down"), write)
        write.fail(error)
        return weakref.ref(error)

    gone = fail()
    gc.collect()
    assert gone() is None


def test_an_error_that_is_its_own_cause_is_one_like_any_other() -> None:
    write = refused(KafkaError._MSG_TIMED_OUT)
    error = raised(NotApplied("never handed over"), OSError("down"), write)
    error.__cause__ = error
    write.fail(error)
    assert str(write.outcome()) == "never handed over"


def test_no_error_is_no_failure() -> None:
    write = refused(KafkaError._MSG_TIMED_OUT)
    write.error = None
    assert write.outcome() is None

"""When entries may be served again after an outage: the decision, with a broker that says what the test wants."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from writebehind.producer import doubt
from writebehind.producer.backlog import Standing
from writebehind.producer.doubt import Doubt
from writebehind.shared.settings import load_settings

TIMEOUT_S = 30.0


class Broker:
    """Says the same until it is told otherwise."""

    def __init__(self, *standings: Standing) -> None:
        self.says: Mapping[int, Standing] | Exception = dict(enumerate(standings))
        self.asked = 0

    def standings(self) -> Mapping[int, Standing]:
        self.asked += 1
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    def close(self) -> None:
        pass

    def wait_asked(self, times: int) -> None:
        asked = self.asked
        until(lambda: self.asked >= asked + times)


def until(condition: Any) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def _no_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubt, "SLACK_S", 0.0)
    monkeypatch.setattr(doubt, "AGAIN_S", 0.01)


def made(broker: Broker, breaker_open_s: float = 0.01) -> Doubt:
    settings = load_settings(
        kafka={"bootstrap_servers": "b"},
        database={"url": "postgresql://x"},
        cache={"url": "redis://x", "breaker_open_s": breaker_open_s, "budget_s": 0.01},
    )
    one = Doubt(settings)
    one._backlog = broker  # type: ignore[assignment]
    return one


def test_it_lasts_until_all_partitions_are_carried_out_up_to_where_they_ended() -> None:
    broker = Broker(Standing(5, 7), Standing(3, 3))
    one = made(broker)
    one.begin()
    broker.wait_asked(2)
    broker.says = {0: Standing(6, 9), 1: Standing(3, 4)}  # what came later is by writers who had the cache again
    broker.wait_asked(2)
    assert one.open
    broker.says = {0: Standing(7, 9), 1: Standing(3, 4)}
    until(lambda: not one.open)


def test_nobody_is_waited_for_where_there_was_never_an_invalidation() -> None:
    for broker in (Broker(), Broker(Standing(0, 0))):
        one = made(broker)
        one.begin()
        until(lambda one=one: not one.open)
        assert broker.asked == 1


def test_writers_come_first() -> None:
    broker = Broker()
    one = made(broker, breaker_open_s=0.5)
    began = time.monotonic()
    one.begin()
    until(lambda: not one.open)
    assert time.monotonic() - began >= 0.5


def test_a_broker_that_does_not_answer_is_asked_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doubt, "TELL_S", 0.0)
    broker = Broker()
    broker.says = KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))
    one = made(broker)
    one.begin()
    broker.wait_asked(2)
    assert one.open
    assert "GROUP_AUTHORIZATION_FAILED" in caplog.text
    broker.says = {0: Standing(1, 1)}
    until(lambda: not one.open)


def test_another_outage_begins_it_anew() -> None:
    broker = Broker(Standing(0, 1))
    one = made(broker)
    one.begin()
    broker.wait_asked(1)
    broker.says = {0: Standing(0, 2)}
    one.begin()
    broker.wait_asked(3)  # one of them may have been under way
    broker.says = {0: Standing(1, 2)}
    broker.wait_asked(3)
    assert one.open  # the second outage left another invalidation
    broker.says = {0: Standing(2, 2)}
    until(lambda: not one.open)
    broker.says = {0: Standing(2, 3)}
    one.begin()
    broker.wait_asked(2)
    assert one.open
    one.close()


def test_it_stays_open_when_it_is_closed() -> None:
    broker = Broker(Standing(0, 1))
    one = made(broker)
    one.begin()
    broker.wait_asked(1)
    one.close()
    time.sleep(0.1)
    asked = broker.asked
    time.sleep(0.1)
    assert broker.asked == asked
    assert one.open

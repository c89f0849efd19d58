"""What the commands say when a server cannot be used: the reason and what to change, and never a secret."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from writebehind.flusher.servers import Broker, database
from writebehind.producer.topic_logs import watermarks
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.settings import DatabaseSettings, Settings, load_settings


def settings(**options: str) -> Settings:
    kafka = {"bootstrap_servers": "127.0.0.1:1", "options": {name.replace("_", "."): v for name, v in options.items()}}
    return load_settings(kafka=kafka, database={"url": "postgresql://x"}, cache={"url": "redis://x"})


@pytest.mark.parametrize(
    ("option", "value"), [("debug", "s3cret"), ("socket.timeout.ms", "s3cret"), ("no.such.option", "s3cret")]
)
def test_a_librdkafka_option_that_is_wrong_is_named_without_its_value(option: str, value: str) -> None:
    broker = Broker(settings(**{option: value, "sasl.password": "s3cret"}))
    with pytest.raises(ConfigurationError) as raised, broker.told():
        AdminClient(broker.client_config())
    assert "WRITEBEHIND_KAFKA__OPTIONS" in str(raised.value)
    assert option in str(raised.value)
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__, "librdkafka's own text shows the value"


def test_a_broker_that_is_down_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    broker = Broker(settings())
    admin = AdminClient(broker.client_config())
    with (
        pytest.raises(ConfigurationError, match=r"127\.0\.0\.1:1 does not answer \(_TRANSPORT\)"),
        broker.told(poll=admin.poll),
    ):
        admin.list_topics(timeout=1)
    output = capfd.readouterr()
    assert output.out + output.err == "", "librdkafka's log would fill the screen"


def test_what_kept_the_client_from_connecting_is_told() -> None:
    broker = Broker(settings())
    heard = [KafkaError._AUTHENTICATION, KafkaError._ALL_BROKERS_DOWN]

    def poll(_: float) -> None:
        for code in heard:
            broker.client_config()["error_cb"](KafkaError(code))

    with pytest.raises(ConfigurationError, match=r"\(_TIMED_OUT, _AUTHENTICATION\)"), broker.told(poll=poll):
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


def test_what_the_broker_refuses_is_told_in_its_words() -> None:
    refused = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "not for you")
    with pytest.raises(ConfigurationError) as raised, Broker(settings()).told("topic x could not be created"):
        raise KafkaException(refused)
    assert str(raised.value) == "topic x could not be created (TOPIC_AUTHORIZATION_FAILED: not for you)"


class Leaderless:
    """Stands for a consumer of a partition that has no leader at first, or never."""

    def __init__(self, codes: list[int]) -> None:
        self._codes = codes

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        if self._codes:
            raise KafkaException(KafkaError(self._codes.pop()))
        return 3, 7


def test_a_partition_without_a_leader_is_asked_again() -> None:
    consumer: Any = Leaderless([KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION])
    assert watermarks(consumer, "t", 0, 30) == (3, 7)


@pytest.mark.parametrize(
    ("code", "timeout_s"), [(KafkaError.NOT_LEADER_FOR_PARTITION, 0), (KafkaError.TOPIC_AUTHORIZATION_FAILED, 30)]
)
def test_what_does_not_pass_or_lasts_too_long_is_raised(code: int, timeout_s: float) -> None:
    consumer: Any = Leaderless([code])
    with pytest.raises(KafkaException) as raised:
        watermarks(consumer, "t", 0, timeout_s)
    assert raised.value.args[0].code() == code


@pytest.mark.parametrize("url", ["postgresql://u:s3cret@127.0.0.1:1/x", "postgresql//u:s3cret@127.0.0.1/x"])
def test_a_database_that_cannot_be_reached_is_told_without_its_password(url: str) -> None:
    unreachable = DatabaseSettings.model_validate({"url": url})
    with pytest.raises(ConfigurationError, match="WRITEBEHIND_DATABASE__URL") as raised, database(unreachable, "test"):
        pytest.fail("there is no such database")
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))

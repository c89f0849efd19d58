"""The outbox: what librdkafka is given, and what is said when it does not take it."""

from __future__ import annotations

import pytest

from writebehind.producer.outbox import Outbox
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.settings import load_settings


@pytest.mark.parametrize("option", ["debug", "socket.timeout.ms", "no.such.option"])
def test_a_librdkafka_option_that_is_wrong_is_named_without_its_value(option: str) -> None:
    settings = load_settings(
        kafka={"bootstrap_servers": "127.0.0.1:1", "options": {option: "s3cret", "sasl.password": "s3cret"}},
        database={"url": "postgresql://x"},
        cache={"url": "redis://x"},
    )
    with pytest.raises(ConfigurationError) as raised:
        Outbox(settings, lambda _writes: None)
    assert "WRITEBEHIND_KAFKA__OPTIONS" in str(raised.value)
    assert option in str(raised.value)
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__, "librdkafka's own text shows the value"

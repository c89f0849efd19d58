"""Where the flusher's measurements go: what OpenTelemetry's own variables ask for."""

from __future__ import annotations

import socket
import urllib.request

import pytest

from writebehind.flusher.telemetry import Telemetry
from writebehind.shared.errors import ConfigurationError


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@pytest.mark.parametrize("served", [False, True])
def test_a_port_for_prometheus_is_served(served: bool) -> None:
    port = free_port()
    asked = {
        "OTEL_METRICS_EXPORTER": "prometheus",
        "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
        "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
    }
    with Telemetry.open(asked, prometheus=served) as telemetry:
        assert telemetry.meter is not None
        telemetry.meter.create_counter("letters").add(3)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            assert b"letters_total 3.0" in answer.read()
        with pytest.raises(ConfigurationError, match="cannot listen on"), Telemetry.open(asked, prometheus=False):
            pytest.fail("the port is in use")
    socket.create_server(("127.0.0.1", port)).close()


def test_without_a_port_only_what_is_served_anyway_is_measured() -> None:
    with Telemetry.open({"OTEL_METRICS_EXPORTER": "prometheus"}, prometheus=True) as telemetry:
        assert telemetry.meter is not None
        telemetry.meter.create_counter("letters").add(3)
        assert b"letters_total 3.0" in telemetry.prometheus_text()


@pytest.mark.parametrize("port", ["ninety", "123456"])
def test_what_is_no_port_is_said(port: str) -> None:
    asked = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": port}
    with (
        pytest.raises(ConfigurationError, match="OTEL_EXPORTER_PROMETHEUS_PORT"),
        Telemetry.open(asked, prometheus=False),
    ):
        pytest.fail("it opened")


def test_switched_off_nothing_is_measured() -> None:
    asked = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_SDK_DISABLED": "true"}
    with Telemetry.open(asked, prometheus=True) as telemetry:
        assert (telemetry.meter, telemetry.prometheus_text()) == (None, b"")

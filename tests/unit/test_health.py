"""The health server: what it answers, and that no client keeps it from answering others."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from writebehind.flusher import health_server
from writebehind.flusher.health import Health
from writebehind.flusher.health_server import HealthServer, serving
from writebehind.flusher.workers import _own_address
from writebehind.shared.errors import ConfigurationError

TOPIC = "writebehind.counter"
TIMEOUT_S = 30.0


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def membership(**changed: Any) -> Any:
    return SimpleNamespace(**{"is_member": True, "has_joined": True, "stopped": {}, **changed})


def lane(**changed: Any) -> Any:
    return SimpleNamespace(**{"topic": TOPIC, "refused": False, "trouble": None, **changed})


def health(clock: Clock | None = None, member: Any = None, *lanes: Any) -> Health:
    return Health(member or membership(), lanes or [lane()], liveness_timeout_s=10, clock=clock or Clock())


def test_a_loop_that_does_not_come_round_is_not_live_until_it_does() -> None:
    clock = Clock()
    asked = health(clock)
    clock.now += 10
    assert asked.live().ok
    clock.now += 0.1
    assert not asked.live().ok
    asked.beat()
    assert asked.live().ok


def test_a_flusher_that_stops_is_live_but_not_ready() -> None:
    clock = Clock()
    asked = health(clock)
    asked.stopping = True
    clock.now += 1000
    assert asked.live().ok
    assert asked.ready().body == {"not_ready": ["stopping"]}


def test_not_ready_names_everything_that_waits_for_a_person() -> None:
    member = membership(is_member=False, stopped={(TOPIC, 1): f"{TOPIC}[1]: records 0 to 4 are gone"})
    report = health(None, member, lane(refused=True, trouble="42P01"), lane(topic="writebehind.town")).ready()
    assert not report.ok
    outside, refused, stopped = report.body["not_ready"]
    assert outside == "not in the group"
    assert refused.startswith(f"{TOPIC}: ")
    assert "42P01" in refused
    assert "records 0 to 4 are gone" in stopped


def test_started_stays_so_when_the_group_is_lost() -> None:
    assert not health(None, membership(is_member=False, has_joined=False)).started().ok
    assert health(None, membership(is_member=False)).started().ok


@pytest.fixture
def server() -> Iterator[HealthServer]:
    made = HealthServer("127.0.0.1", 0, health(), lambda: b"# metrics\n")
    made.start()
    yield made
    made.stop()
    made._thread.join(TIMEOUT_S)
    assert not made._thread.is_alive()


def ask(server: HealthServer, method: str, path: str) -> tuple[int, bytes]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/livez", 200),
        ("GET", "/readyz?verbose", 200),
        ("GET", "/startupz", 200),
        ("HEAD", "/livez", 200),
        ("GET", "/metrics", 200),
        ("GET", "/", 404),
        ("GET", "/livez/", 404),
        ("GET", "/../livez", 404),
        ("POST", "/livez", 405),
        ("DELETE", "/metrics", 405),
    ],
)
def test_four_paths_are_served_and_nothing_else(server: HealthServer, method: str, path: str, status: int) -> None:
    found, body = ask(server, method, path)
    assert found == status
    assert bool(body) == (method != "HEAD")
    if path != "/metrics" and method != "HEAD":
        json.loads(body)


def test_metrics_are_what_the_exporter_says(server: HealthServer) -> None:
    assert ask(server, "GET", "/metrics") == (200, b"# metrics\n")


@pytest.mark.parametrize(
    "sent", [b"nonsense\r\n\r\n", b"GET /livez SMTP/1.0\r\n\r\n", b"\r\n\r\n", b"\x00\xff\r\n\r\n"]
)
def test_what_is_not_http_is_refused(server: HealthServer, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S) as client:
        client.sendall(sent)
        assert client.recv(1024).startswith(b"HTTP/1.1 400 ")


def test_a_request_without_end_is_cut_off_while_others_are_answered(
    server: HealthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_server, "REQUEST_S", 0.2)
    with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S) as slow:
        slow.sendall(b"GET /livez HTTP/1.1\r\nHost:")
        assert ask(server, "GET", "/livez")[0] == 200
        assert closed(slow)


def test_a_request_that_is_too_long_is_cut_off(server: HealthServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S) as client:
        with contextlib.suppress(OSError):  # cut off while it sends
            client.sendall(b"GET /livez HTTP/1.1\r\nX: " + b"x" * 10 * health_server.REQUEST_BYTES)
        assert closed(client)
    assert ask(server, "GET", "/livez")[0] == 200


def test_connections_beyond_the_bound_are_closed(server: HealthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_server, "CONNECTIONS_MAX", 1)
    with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S) as first:
        first.sendall(b"GET /livez")
        with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S) as second:
            assert closed(second)
        first.sendall(b" HTTP/1.1\r\n\r\n")
        assert first.recv(1024).startswith(b"HTTP/1.1 200 ")


def test_a_scrape_that_fails_leaves_the_probes_alone() -> None:
    def broken() -> bytes:
        raise RuntimeError

    made = HealthServer("127.0.0.1", 0, health(), broken)
    made.start()
    assert ask(made, "GET", "/metrics")[0] == 500
    assert ask(made, "GET", "/livez")[0] == 200
    made.stop()
    made._thread.join(TIMEOUT_S)


def test_an_address_that_is_taken_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"HEALTH_ADDRESS.*127.0.0.1:{port}"):
            serving(f"127.0.0.1:{port}", health(), bytes).__enter__()


def test_off_serves_nothing() -> None:
    with serving("off", cast(Health, None), bytes):
        pass


@pytest.mark.parametrize(
    ("address", "own"),
    [("0.0.0.0:8081", "0.0.0.0:8083"), ("[::]:8081", "[::]:8083"), ("127.0.0.1:0", "127.0.0.1:0"), ("off", "off")],
)
def test_each_worker_has_a_port_of_its_own(address: str, own: str) -> None:
    assert _own_address(address, 2) == own


def closed(client: socket.socket) -> bool:
    """Whether the server closes the connection without an answer, in whatever way."""
    try:
        return client.recv(1024) == b""
    except ConnectionError:
        return True

"""The proxy of the fault tests: what it does to bytes, and that its traps act exactly where they say."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.faults.flow import Flow
from tests.faults.proxy import Moment, Proxy
from tests.faults.wire import Postgres, Redis

TIMEOUT_S = 20.0


@contextmanager
def server(answer: Callable[[bytes], bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """A server that answers each chunk; gives its port and what it has received."""
    received: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    received.append(data)
                    connection.sendall(answer(data))
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=[connection], daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], received
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(TIMEOUT_S)


def connect(proxy: Proxy) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=TIMEOUT_S)
    connection.settimeout(TIMEOUT_S)
    return connection


def read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        assert chunk, f"closed after {len(data)} of {size} bytes"
        data += chunk
    return data


def command(*words: str) -> bytes:
    return f"*{len(words)}\r\n".encode() + b"".join(f"${len(word)}\r\n{word}\r\n".encode() for word in words)


def test_passes_everything_also_in_slices_and_late() -> None:
    message = bytes(range(256)) * 40
    with server(lambda data: data) as (port, _), Proxy(port) as proxy, connect(proxy) as client:
        proxy.to_server.slice_bytes = 1000
        proxy.to_client.delay_s = 0.001
        client.sendall(message)
        assert read(client, len(message)) == message


def test_stalls_with_the_connection_open_and_passes_on_later() -> None:
    with server(lambda _: b"answer") as (port, received), Proxy(port) as proxy, connect(proxy) as client:
        proxy.to_client.stall()
        client.sendall(b"question")
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(1)
        proxy.to_client.flow()
        client.settimeout(TIMEOUT_S)
        assert read(client, 6) == b"answer"
        assert received == [b"question"]


def test_resets_connections_and_refuses_new_ones() -> None:
    with server(lambda data: data) as (port, _), Proxy(port) as proxy, connect(proxy) as client:
        client.sendall(b"x")
        assert read(client, 1) == b"x"
        assert proxy.connections == 1
        proxy.refusing = True
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        with pytest.raises(ConnectionResetError), connect(proxy) as refused:  # while it connects, or right after
            refused.recv(1)


@pytest.mark.parametrize(
    ("moment", "seen_by_server", "answered"),
    [
        (Moment.BEFORE_REQUEST, False, False),
        (Moment.AFTER_REQUEST, True, False),
        (Moment.BEFORE_REPLY, True, False),
        (Moment.AFTER_REPLY, True, True),
    ],
)
def test_a_trap_acts_at_its_moment_and_cuts_there(moment: Moment, seen_by_server: bool, answered: bool) -> None:
    silent = moment is Moment.AFTER_REQUEST  # nothing says whether an answer comes before the cut
    with (
        server(lambda data: b"" if silent and b"evalsha" in data else b"+OK\r\n") as (port, received),
        Proxy(port, Redis) as proxy,
        connect(proxy) as client,
    ):
        trap = proxy.trap("EVALSHA", moment, cut=True, skip=1)
        for word in ("PING", "EVALSHA", "PING"):
            client.sendall(command(word, "argument"))
            assert read(client, 5) == b"+OK\r\n"
        client.sendall(command("evalsha", "argument"))
        if answered:
            assert read(client, 5) == b"+OK\r\n"
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert trap.hit.wait(TIMEOUT_S)
        deadline = time.monotonic() + TIMEOUT_S
        while seen_by_server and len(received) < 4 and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        assert (command("evalsha", "argument") in received) == seen_by_server


def test_the_action_runs_while_the_bytes_wait() -> None:
    with server(lambda _: b"+OK\r\n") as (port, received), Proxy(port, Redis) as proxy, connect(proxy) as client:
        seen_at_the_moment: list[int] = []
        proxy.trap("SET", Moment.BEFORE_REQUEST, lambda: seen_at_the_moment.append(len(received)))
        client.sendall(command("SET", "k", "v"))
        assert read(client, 5) == b"+OK\r\n"
        assert seen_at_the_moment == [0]
        assert received == [command("SET", "k", "v")]


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


STARTUP = struct.pack("!ii", 8, 196608)
SYNC, READY = message(b"S", b""), message(b"Z", b"I")
PREPARE = message(b"P", b"s1\0MERGE INTO t\0\0\0")
EXECUTE = message(b"B", b"\0s1\0") + message(b"D", b"P\0") + message(b"E", b"\0\0\0\0\0")


BEGIN = message(b"P", b"\0BEGIN\0\0\0") + message(b"B", b"\0\0") + message(b"E", b"\0\0\0\0\0")


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_postgres_requests_are_named_by_what_they_execute(step: int) -> None:
    wire = Postgres()
    pipeline = BEGIN + EXECUTE + message(b"Q", b"COMMIT\0")
    sent = STARTUP + message(b"p", b"password\0") + PREPARE + SYNC + EXECUTE + SYNC + pipeline + EXECUTE + SYNC
    pieces = [p for at in range(0, len(sent), step) for p in wire.requests(sent[at : at + step])]
    assert b"".join(piece.data for piece in pieces) == sent
    assert [p.name for p in pieces if p.name] == ["MERGE INTO t", "BEGIN", "MERGE INTO t", "COMMIT", "MERGE INTO t"]
    executed = {p.name: p.data for p in pieces if p.name}
    assert executed["BEGIN"] == BEGIN  # nothing of what follows
    assert executed["COMMIT"] == message(b"Q", b"COMMIT\0")


def test_postgres_encryption_is_refused_so_that_there_is_something_to_read() -> None:
    pieces = list(Postgres().requests(struct.pack("!ii", 8, 80877103) + STARTUP))
    assert [(p.data, p.refusal) for p in pieces] == [(struct.pack("!ii", 8, 80877103), b"N"), (STARTUP, None)]


def test_postgres_answers_belong_to_their_requests_and_are_held_until_complete() -> None:
    wire = Postgres()
    list(wire.requests(STARTUP))
    assert [p.name for p in wire.replies(message(b"R", b"\0\0\0\x0a"))] == [None]  # sign-in goes on half-way
    assert [p.name for p in wire.replies(READY)] == [None]
    list(wire.requests(PREPARE + SYNC + BEGIN + EXECUTE + SYNC + message(b"Q", b"COMMIT\0")))
    assert [p.name for p in wire.replies(message(b"1", b"") + READY)] == [None]
    assert [p.name for p in wire.replies(message(b"C", b"BEGIN\0") + message(b"2", b""))] == ["BEGIN"]
    assert [p.name for p in wire.replies(message(b"C", b"MERGE 1\0")[:5])] == []  # not complete
    assert [p.name for p in wire.replies(message(b"C", b"MERGE 1\0")[5:] + READY)] == ["MERGE INTO t"]
    commit = message(b"C", b"COMMIT\0") + READY
    assert [(p.name, p.data) for p in wire.replies(commit)] == [("COMMIT", commit)]


def test_postgres_answers_keep_their_names_after_an_error() -> None:
    wire = Postgres()
    list(wire.requests(STARTUP + PREPARE + SYNC))
    list(wire.replies(READY + message(b"1", b"") + READY))
    list(wire.requests(BEGIN + EXECUTE + EXECUTE + SYNC + message(b"Q", b"ROLLBACK\0")))
    failed = message(b"C", b"BEGIN\0") + message(b"E", b"SFATAL\0\0") + READY
    names = [p.name for p in wire.replies(failed + message(b"C", b"ROLLBACK\0") + READY)]
    assert [name for name in names if name] == ["BEGIN", "ROLLBACK"]


@pytest.mark.parametrize("step", [1, 5, 10_000])
def test_redis_answers_of_every_shape_belong_to_their_commands(step: int) -> None:
    wire = Redis()
    commands = ["HELLO", "GET", "HMGET", "EVALSHA", "PING"]
    list(wire.requests(b"".join(command(word, "x") for word in commands)))
    answers = [
        b"%2\r\n+server\r\n+valkey\r\n+proto\r\n:3\r\n",
        b"$-1\r\n",
        b"*3\r\n$1\r\na\r\n_\r\n*1\r\n$0\r\n\r\n",
        b">2\r\n+invalidate\r\n*-1\r\n",  # pushed: answers nothing
        b"$4\r\n\r\n\r\n\r\n",
        b"+PONG\r\n",
    ]
    sent = b"".join(answers)
    pieces = [p for at in range(0, len(sent), step) for p in wire.replies(sent[at : at + step])]
    assert [p.data for p in pieces] == answers
    assert [p.name for p in pieces] == ["HELLO x", "GET x", "HMGET x", None, "EVALSHA x", "PING x"]


def test_conditions_that_change_while_bytes_pass_change_none_of_them() -> None:
    flow, data = Flow(), bytes(n % 251 for n in range(20_000))
    flow.slice_bytes, flow.delay_s = 100, 0.001
    here, there = socket.socketpair()
    with here, there:
        there.settimeout(TIMEOUT_S)

        def send() -> None:
            flow.send(here, data)
            here.shutdown(socket.SHUT_WR)

        sending = threading.Thread(target=send)
        sending.start()
        received = there.recv(1000)
        flow.slice_bytes, flow.delay_s = 5_000, 0.0
        while piece := there.recv(65536):
            received += piece
        sending.join(TIMEOUT_S)
    assert received == data

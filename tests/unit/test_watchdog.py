"""The watchdog's decisions, and what it does to sockets: no server, and a clock that the test sets."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import psycopg
import pytest

from writebehind.flusher import watchdog
from writebehind.flusher.watchdog import Answer, Watchdog

LIMIT_S = 10.0


class Wire:
    """Stands in for a connection: a pair of sockets, of which one end is ours."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()

    def fileno(self) -> int:
        return self.ours.fileno()

    @property
    def cut(self) -> bool:
        readable, _, _ = select.select([self.theirs], [], [], 0)
        return bool(readable) and self.theirs.recv(1) == b""


class Server:
    """Answers the watchdog's questions as the test says."""

    def __init__(self) -> None:
        self.answer = Answer.BUSY
        self.asked: list[tuple[str, list[int]]] = []

    def ask(self, url: str, pids: Sequence[int]) -> Mapping[int, Answer]:
        self.asked.append((url, list(pids)))
        return dict.fromkeys(pids, self.answer)


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    with made.ours, made.theirs:
        yield made


@pytest.fixture
def dog(monkeypatch: pytest.MonkeyPatch) -> tuple[Watchdog, Server]:
    monkeypatch.setattr(watchdog, "TICK_S", 3600.0)  # the test looks by itself
    server = Server()
    return Watchdog(server.ask), server


def connection(wire: Wire) -> psycopg.Connection[Any]:
    return cast("psycopg.Connection[Any]", wire)


def later(seconds: float) -> float:
    return time.monotonic() + seconds


def test_a_call_within_its_limit_is_left_alone(dog: tuple[Watchdog, Server], wire: Wire) -> None:
    watch, server = dog
    watch.know(connection(wire), "url", 7)
    with watch.guard(connection(wire), LIMIT_S) as guard:
        watch.look(later(LIMIT_S - 1))
        assert (guard.fired, wire.cut, server.asked) == (False, False, [])


def test_a_backend_that_works_is_never_cut(dog: tuple[Watchdog, Server], wire: Wire) -> None:
    watch, server = dog
    watch.know(connection(wire), "url", 7)
    with watch.guard(connection(wire), LIMIT_S) as guard:
        for _ in range(20):
            watch.look(later(1000))
        assert (guard.fired, wire.cut) == (False, False)
        assert server.asked == [("url", [7])] * 20


@pytest.mark.parametrize("answer", [Answer.SILENT, Answer.GONE])
def test_a_stalled_server_and_a_lost_session_are_cut_at_once(
    dog: tuple[Watchdog, Server], wire: Wire, answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    watch, server = dog
    server.answer = answer
    watch.know(connection(wire), "url", 7)
    with watch.guard(connection(wire), LIMIT_S) as guard:
        watch.look(later(LIMIT_S + 1))
        assert (guard.fired, wire.cut) == (True, True)
        watch.look(later(1000))
    assert len(server.asked) == 1  # what is cut is not asked for again
    assert [record.getMessage() for record in caplog.records] == [
        f"no answer from the database for 10 s or more ({answer}): the connection is cut"
    ]


def test_an_idle_backend_is_cut_only_when_it_stays_idle(dog: tuple[Watchdog, Server], wire: Wire) -> None:
    watch, server = dog
    watch.know(connection(wire), "url", 7)
    with watch.guard(connection(wire), LIMIT_S) as guard:
        for answer in (Answer.IDLE, Answer.IDLE, Answer.BUSY, Answer.IDLE, Answer.IDLE):
            server.answer = answer
            watch.look(later(1000))
            assert not guard.fired
        watch.look(later(1000))
        assert (guard.fired, wire.cut) == (True, True)


def test_a_server_that_lets_nobody_ask_is_given_longer_than_a_statement_takes(
    dog: tuple[Watchdog, Server], wire: Wire
) -> None:
    watch, server = dog
    server.answer = Answer.REFUSED
    watch.know(connection(wire), "url", 7)
    with watch.guard(connection(wire), LIMIT_S) as guard:
        for _ in range(11):
            watch.look(later(1000))
        assert (guard.fired, wire.cut) == (False, False)
        watch.look(later(1000))
        assert (guard.fired, wire.cut) == (True, True)


def test_it_looks_again_soon_after_an_idle_backend_and_later_after_a_busy_one(
    dog: tuple[Watchdog, Server], wire: Wire
) -> None:
    watch, server = dog
    watch.know(connection(wire), "url", 7)
    with watch.guard(connection(wire), LIMIT_S):
        watch.look(later(LIMIT_S))
        watch.look(later(4))
        assert len(server.asked) == 1
        server.answer = Answer.IDLE
        watch.look(later(5.1))
        watch.look(later(1.1))
        assert len(server.asked) == 3


def test_a_connection_nobody_knows_is_cut_at_its_limit(dog: tuple[Watchdog, Server], wire: Wire) -> None:
    watch, server = dog
    with watch.guard(connection(wire), LIMIT_S) as guard:
        watch.look(later(LIMIT_S + 1))
        assert (guard.fired, wire.cut, server.asked) == (True, True, [])


def test_one_question_per_server_however_many_calls_wait(dog: tuple[Watchdog, Server]) -> None:
    watch, server = dog
    wires = [Wire() for _ in range(3)]
    for number, made in enumerate(wires):
        watch.know(connection(made), "url", number)
    with (
        watch.guard(connection(wires[0]), LIMIT_S),
        watch.guard(connection(wires[1]), LIMIT_S),
        watch.guard(connection(wires[2]), LIMIT_S * 2),
    ):
        watch.look(later(LIMIT_S + 1))
    assert server.asked == [("url", [0, 1])]
    for made in wires:
        made.ours.close()
        made.theirs.close()


def test_a_call_that_ends_while_the_server_is_asked_is_left_alone(wire: Wire) -> None:
    asking, answered = threading.Event(), threading.Event()

    def ask(_url: str, pids: Sequence[int]) -> Mapping[int, Answer]:
        asking.set()
        assert answered.wait(60)
        return dict.fromkeys(pids, Answer.GONE)

    watch = Watchdog(ask)
    watch.know(connection(wire), "url", 7)
    with watch.guard(connection(wire), LIMIT_S) as guard:
        looking = threading.Thread(target=watch.look, args=(later(LIMIT_S + 1),))
        looking.start()
        assert asking.wait(60)
    answered.set()
    looking.join(60)
    assert (guard.fired, wire.cut) == (False, False)


def test_a_socket_that_took_over_the_number_is_not_touched(dog: tuple[Watchdog, Server]) -> None:
    watch, server = dog
    server.answer = Answer.SILENT
    broken, bystander = Wire(), Wire()
    watch.know(connection(broken), "url", 7)
    with watch.guard(connection(broken), LIMIT_S) as guard:
        number = broken.ours.fileno()
        broken.ours.detach()
        os.dup2(bystander.ours.fileno(), number)  # libpq closed its socket, and the number went to somebody else
        watch.look(later(LIMIT_S + 1))
        assert (guard.fired, broken.cut, bystander.cut) == (True, True, False)
    os.close(number)
    for left in (broken.theirs, bystander.ours, bystander.theirs):
        left.close()


def test_its_thread_cuts_without_being_asked(monkeypatch: pytest.MonkeyPatch, wire: Wire) -> None:
    monkeypatch.setattr(watchdog, "TICK_S", 0.01)
    server = Server()
    server.answer = Answer.SILENT
    watch = Watchdog(server.ask)
    watch.know(connection(wire), "url", 7)
    with watch.guard(connection(wire), 0.01):
        readable, _, _ = select.select([wire.ours], [], [], 60)
        assert readable
        assert wire.ours.recv(1) == b""


def test_its_thread_outlives_an_error(
    monkeypatch: pytest.MonkeyPatch, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watchdog, "TICK_S", 0.01)
    server = Server()
    server.answer = Answer.SILENT
    failures = [ValueError("once")]

    def ask(url: str, pids: Sequence[int]) -> Mapping[int, Answer]:
        if failures:
            raise failures.pop()
        return server.ask(url, pids)

    watch = Watchdog(ask)
    watch.know(connection(wire), "url", 7)
    with watch.guard(connection(wire), 0.01):
        readable, _, _ = select.select([wire.ours], [], [], 60)
        assert readable
    assert "the watchdog failed; it goes on" in caplog.text

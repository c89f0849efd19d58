"""A watchdog for calls to Postgres that would wait for ever: a server that stalls on an open connection.

A stopped server, or a network that swallows packets, keeps the connection established. Nothing of ours ends the wait
then: the statement time-out is the stalled server's own, and the kernel still acknowledges keepalives (psycopg#1371).

Silence alone does not tell a stall from a long statement. After `limit_s` one thread per process asks on a connection
of its own what the server does for us. It shuts the silent socket down, which the waiting call sees as a lost
connection, only when
1. the server does not answer the question either,
2. our backend is gone: a restart or failover whose goodbye was lost,
3. our backend waits for us, several times in a row: what we sent or what it answered was lost,
4. the server lets nobody ask, for longer than a statement may take.
A backend that works is left alone: the server's own `statement_timeout` bounds it.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import psycopg

log = logging.getLogger("writebehind.flusher")

TICK_S = 0.5  # how late a deadline is noticed
ASK_S = 5.0  # a server that takes longer to answer a question does not answer
# Between two statements of a call a backend is idle as well, for as long as we fold and pack.
_ASK = (
    "SELECT pid, state = 'active' AND wait_event_type IS DISTINCT FROM 'Client'"
    " OR state_change > clock_timestamp() - interval '3 s' FROM pg_stat_activity WHERE pid = ANY(%s::int4[])"
)


class Answer(enum.StrEnum):
    """What a server says of one of our backends."""

    SILENT = "the server does not answer"
    GONE = "the server has lost our session"
    IDLE = "the server waits for us"
    REFUSED = "the server lets nobody ask"
    BUSY = "the server works"


# How many times in a row an answer is heard before the connection is cut, and the seconds between two looks.
PATIENCE: Mapping[Answer, tuple[float, float]] = {
    Answer.SILENT: (1, 1.0),
    Answer.GONE: (1, 1.0),
    Answer.IDLE: (3, 1.0),
    Answer.REFUSED: (12, 5.0),  # it starts up, or has no connection left, and may be at work for us all the same
    Answer.BUSY: (math.inf, 5.0),
}

Ask = Callable[[str, Sequence[int]], Mapping[int, Answer]]


@dataclass(eq=False, slots=True)
class Guard:
    """One call that is watched. `fired`: its connection was shut down."""

    socket: socket.socket
    deadline: float
    limit_s: float
    url: str | None
    pid: int
    heard: Answer = Answer.BUSY
    looks: int = 0
    fired: bool = False

    def judge(self, answer: Answer, now: float) -> bool:
        """Whether to cut the connection; if not, it is looked at again later."""
        self.looks = self.looks + 1 if answer is self.heard else 1
        self.heard = answer
        looks_max, pause_s = PATIENCE[answer]
        self.deadline = now + pause_s
        return self.looks >= looks_max


def ask(url: str, pids: Sequence[int]) -> Mapping[int, Answer]:
    """Ask the server about backends. Bounded by twice `ASK_S`, also when it stalls half-way through the answer."""
    began = time.monotonic()
    try:
        with (
            psycopg.connect(
                url, autocommit=True, connect_timeout=int(ASK_S), application_name="writebehind-flusher watchdog"
            ) as connection,
            socket.socket(fileno=os.dup(connection.fileno())) as copy,
        ):
            timer = threading.Timer(ASK_S, _shut_down, [copy])
            timer.start()
            try:
                working: dict[int, bool | None] = dict(connection.execute(_ASK, (list(pids),)).fetchall())
            finally:
                timer.cancel()
    except psycopg.Error as error:
        # 1. It did not answer in time. 2. It refused us; psycopg gives no SQLSTATE for that.
        silent = isinstance(error, psycopg.errors.ConnectionTimeout) or time.monotonic() - began >= ASK_S
        return dict.fromkeys(pids, Answer.SILENT if silent else Answer.REFUSED)
    return {pid: _answer(working.get(pid), known=pid in working) for pid in pids}


def _answer(works: bool | None, *, known: bool) -> Answer:
    if not known:
        return Answer.GONE
    return Answer.BUSY if works else Answer.IDLE


def _shut_down(stalled: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other end was faster, or the copy is closed by now
        stalled.shutdown(socket.SHUT_RDWR)


class Watchdog:
    """Watches calls; one is enough for a process. Its thread starts with the first call and does not keep it alive."""

    def __init__(self, ask: Ask = ask) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._guards: set[Guard] = set()
        self._backends: WeakKeyDictionary[psycopg.Connection[Any], tuple[str, int]] = WeakKeyDictionary()
        self._thread: threading.Thread | None = None

    def know(self, connection: psycopg.Connection[Any], url: str, pid: int) -> None:
        """Say where a connection leads and what `pg_backend_pid()` gave there; a pooler's own number means nothing.

        Without this a silent connection is cut at its limit, and nobody is asked.
        """
        with self._lock:
            self._backends[connection] = (url, pid)

    @contextmanager
    def guard(self, connection: psycopg.Connection[Any], limit_s: float) -> Iterator[Guard]:
        """Watch what is done with a connection in this block. Costs a lock and two system calls."""
        # A copy: libpq closes its socket when it finds it broken, and the number may be somebody else's by then.
        with socket.socket(fileno=os.dup(connection.fileno())) as copy:
            with self._lock:
                url, pid = self._backends.get(connection, (None, 0))
                guard = Guard(copy, time.monotonic() + limit_s, limit_s, url, pid)
                self._guards.add(guard)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
                    self._thread.start()
            try:
                yield guard
            finally:
                with self._lock:  # not while the copy is being shut down
                    self._guards.remove(guard)

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(TICK_S):
            try:
                self.look(time.monotonic())
            except Exception:
                # A watchdog that dies leaves calls waiting for ever, without a sound.
                log.exception("the watchdog failed; it goes on")

    def look(self, now: float) -> None:
        """Deal with every call whose time has run out: one question per server, however many wait for it."""
        with self._lock:
            overdue = [guard for guard in self._guards if guard.deadline <= now and not guard.fired]
        for url in {guard.url for guard in overdue}:
            asked = [guard for guard in overdue if guard.url == url]
            answers = {} if url is None else self._ask(url, sorted({guard.pid for guard in asked}))
            for guard in asked:
                answer = answers.get(guard.pid, Answer.SILENT)
                if guard.judge(answer, time.monotonic()):
                    self._cut(guard, answer)
                elif answer is Answer.BUSY and guard.looks == 1:
                    log.info("no answer from the database for %g s: %s, and is waited for", guard.limit_s, answer)

    def _cut(self, guard: Guard, answer: Answer) -> None:
        with self._lock:
            if guard not in self._guards:
                return  # it came back in the meantime
            guard.fired = True
            _shut_down(guard.socket)
        log.warning("no answer from the database for %g s or more (%s): the connection is cut", guard.limit_s, answer)


_watchdog = Watchdog()
guard = _watchdog.guard
know = _watchdog.know

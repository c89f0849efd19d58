"""A TCP proxy that does to connections what networks and dying processes do, at a moment that a test names.

Each direction can be delayed, sliced or held up; connections can be reset, or refused. A *trap* waits for one request
(`COMMIT`, `EVALSHA`, …), calls the test at an exact moment of its life, and may cut the connection there.
"""

from __future__ import annotations

import contextlib
import enum
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.faults.flow import CHUNK_BYTES, Flow, reset
from tests.faults.wire import Piece, Plain, Wire


def port_of(url: str) -> int:
    """The port of the server that a URL leads to."""
    found = urlsplit(url).port
    if found is None:
        raise ValueError("the URL names no port")
    return found


class Moment(enum.StrEnum):
    """When a trap acts on a request."""

    BEFORE_REQUEST = "the server has not seen it"
    AFTER_REQUEST = "it was passed on to the server"
    BEFORE_REPLY = "the server has answered, and the client does not know"
    AFTER_REPLY = "the answer was passed on to the client"


@dataclass(eq=False)
class Trap:
    """Acts once: on the first request that starts with `prefix`, after `skip` others; then `hit` is set."""

    prefix: str
    moment: Moment
    action: Callable[[], object]
    cut: bool
    skip: int
    hit: threading.Event = field(default_factory=threading.Event)


class Proxy:
    """Passes connections to `port` on from a port of its own, until it is closed. `wire` reads the protocol.

    `source` is the address that the server sees.
    """

    def __init__(self, port: int, wire: Callable[[], Wire] = Plain, *, source: str = "127.0.0.1") -> None:
        self._target, self._source = ("127.0.0.1", port), (source, 0)
        self._wire = wire
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.to_server, self.to_client = Flow(), Flow()
        self.refusing = False
        self._traps: list[Trap] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._accepting = threading.Thread(target=self._accept, name=f"proxy {self.port}", daemon=True)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refusing = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.to_server.flow()
        self.to_client.flow()
        self.reset()
        self._accepting.join(10)

    def trap(
        self, prefix: str, moment: Moment, action: Callable[[], object] = bool, *, cut: bool = False, skip: int = 0
    ) -> Trap:
        """Call `action` at that moment of a request; the bytes wait meanwhile. `cut`: reset the connection there."""
        trap = Trap(prefix, moment, action, cut, skip)
        with self._lock:
            self._traps.append(trap)
        return trap

    def release(self, trap: Trap) -> None:
        """Take a trap away that nothing ran into."""
        with self._lock, contextlib.suppress(ValueError):
            self._traps.remove(trap)

    def reset(self) -> None:
        """Reset (RST) every connection."""
        with self._lock:
            ends, self._open = self._open, set()
        for end in ends:
            reset(end)

    @property
    def connections(self) -> int:
        """Connections of clients that are open."""
        with self._lock:
            return len(self._open) // 2

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refusing:
                reset(client)
                continue
            try:
                server = socket.create_connection(self._target, 10, self._source)
            except OSError:
                reset(client)
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {client, server}
            wire = self._wire()
            requests = (client, server, self.to_server, wire.requests, Moment.BEFORE_REQUEST, Moment.AFTER_REQUEST)
            replies = (server, client, self.to_client, wire.replies, Moment.BEFORE_REPLY, Moment.AFTER_REPLY)
            for direction in (requests, replies):
                threading.Thread(target=self._pump, args=direction, daemon=True).start()

    def _pump(
        self,
        source: socket.socket,
        target: socket.socket,
        flow: Flow,
        read: Callable[[bytes], Iterator[Piece]],
        before: Moment,
        after: Moment,
    ) -> None:
        """Pass one direction on until either end is gone; then both are."""
        try:
            while data := source.recv(CHUNK_BYTES):
                for piece in read(data):
                    if piece.refusal is not None:
                        source.sendall(piece.refusal)
                        continue
                    self._spring(piece.name, before)
                    flow.send(target, piece.data)
                    self._spring(piece.name, after)
        except (OSError, _Cut):
            for end in self._leave(source, target):
                reset(end)
        for end in self._leave(source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # wakes the other direction
            end.close()

    def _spring(self, name: str | None, moment: Moment) -> None:
        if name is None:
            return
        with self._lock:
            trap = next((t for t in self._traps if t.moment is moment and name.startswith(t.prefix)), None)
            if trap is None:
                return
            if trap.skip:
                trap.skip -= 1
                return
            self._traps.remove(trap)
        trap.action()
        trap.hit.set()
        if trap.cut:
            raise _Cut

    def _leave(self, *ends: socket.socket) -> set[socket.socket]:
        """Those ends that nobody has closed yet. Only who gets one here may close it: a FIN must not overtake a RST."""
        with self._lock:
            mine = self._open & set(ends)
            self._open -= mine
        return mine


class _Cut(Exception):
    """A trap ends the connection."""

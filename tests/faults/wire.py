"""Where requests and replies begin and end in the protocols that the proxy can act on. Pure: bytes in, pieces out."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

_SSL_REQUEST, _GSS_REQUEST, _CANCEL_REQUEST = 80877103, 80877104, 80877102


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes to pass on together. `name` says which request they are, or answer; None: nothing anybody would act on.

    `refusal` is sent back to the client, in place of passing the bytes on.
    """

    data: bytes
    name: str | None = None
    refusal: bytes | None = None


class Wire(Protocol):
    """One connection's two directions; keeps what is not complete yet."""

    def requests(self, data: bytes) -> Iterator[Piece]:
        """Pieces of what the client sent."""
        ...

    def replies(self, data: bytes) -> Iterator[Piece]:
        """Pieces of what the server sent."""
        ...


class Plain:
    """Any protocol: bytes pass as they come."""

    def requests(self, data: bytes) -> Iterator[Piece]:
        yield Piece(data)

    def replies(self, data: bytes) -> Iterator[Piece]:
        yield Piece(data)


class Postgres:
    """A request is one execution of a statement, also in a pipeline of them; its name is the statement's text.

    Encryption is refused, so that there is something to read.
    """

    def __init__(self) -> None:
        self._sent, self._answered = b"", b""
        self._name: str | None = None
        self._started = False
        self._statements: dict[bytes, str] = {}
        self._waiting: deque[str | None] = deque()  # executions without an answer yet, oldest first; None: a Sync

    def requests(self, data: bytes) -> Iterator[Piece]:
        self._sent += data
        while not self._started:
            if len(self._sent) < 8 or len(self._sent) < (length := struct.unpack_from("!i", self._sent)[0]):
                return
            first, self._sent = self._sent[:length], self._sent[length:]
            code = struct.unpack_from("!i", first, 4)[0]
            if code in (_SSL_REQUEST, _GSS_REQUEST):
                yield Piece(first, refusal=b"N")
                continue
            self._started = True
            if code != _CANCEL_REQUEST:
                self._waiting.append(None)
            yield Piece(first)
        at = 0
        while (message := _message(self._sent, at)) is not None:
            at += len(message)
            self._read(message[:1], message[5:])
            if message[:1] in b"EQ":
                self._waiting.append(self._name)
            if message[:1] in b"SQ":
                self._waiting.append(None)
            elif message[:1] == b"E" and self._sent[at : at + 1] == b"S":
                continue  # a Sync goes along with what it ends
            if message[:1] not in b"PBD":  # an execution goes along with what it needs
                yield Piece(self._sent[:at], self._name)
                self._sent, self._name, at = self._sent[at:], None, 0

    def replies(self, data: bytes) -> Iterator[Piece]:
        self._answered += data
        at = 0
        while (message := _message(self._answered, at)) is not None:
            at += len(message)
            name: str | None = None
            if message[:1] == b"Z":
                while self._waiting and self._waiting.popleft() is not None:
                    pass  # what an error made the server skip
            elif message[:1] not in b"CIs" or not self._waiting or self._waiting[0] is None:
                continue
            else:
                name = self._waiting.popleft()
                if (ready := _message(self._answered, at)) is not None and ready[:1] == b"Z":
                    at += len(ready)
                    self._waiting.popleft()
            yield Piece(self._answered[:at], name)
            self._answered, at = self._answered[at:], 0
        # An answer that somebody may act on is held until it is complete; others (sign-in, notifications) are not.
        if at and not (self._waiting and self._waiting[0]):
            yield Piece(self._answered[:at])
            self._answered = self._answered[at:]

    def _read(self, kind: bytes, body: bytes) -> None:
        if kind == b"Q":
            self._name = body.rstrip(b"\0").decode()
        elif kind == b"P":
            statement, text = body.split(b"\0", 2)[:2]
            self._statements[statement] = text.decode()
        elif kind == b"B":
            self._name = self._statements.get(body.split(b"\0", 2)[1], "")


def _message(data: bytes, at: int) -> bytes | None:
    if len(data) - at < 5:
        return None
    end = at + 1 + int(struct.unpack_from("!i", data, at + 1)[0])
    return data[at:end] if end <= len(data) else None


class Redis:
    """A request is one command; its name is the command in capitals and its first argument."""

    def __init__(self) -> None:
        self._sent, self._answered = b"", b""
        self._waiting: deque[str] = deque()

    def requests(self, data: bytes) -> Iterator[Piece]:
        self._sent += data
        while (end := _resp_end(self._sent, 0)) is not None:
            command, self._sent = self._sent[:end], self._sent[end:]
            words = command.split(b"\r\n", 5)[2::2][:2]  # *N $L word $L word …
            name = b" ".join([words[0].upper(), *words[1:]]).decode("utf-8", "replace")
            self._waiting.append(name)
            yield Piece(command, name)

    def replies(self, data: bytes) -> Iterator[Piece]:
        self._answered += data
        while (end := _resp_end(self._answered, 0)) is not None:
            reply, self._answered = self._answered[:end], self._answered[end:]
            pushed = reply[:1] == b">"
            yield Piece(reply, None if pushed or not self._waiting else self._waiting.popleft())


def _resp_end(data: bytes, at: int) -> int | None:
    """Where the RESP value that starts at `at` ends, None when it is not complete."""
    line = data.find(b"\r\n", at)
    if line < 0:
        return None
    kind, end = data[at : at + 1], line + 2
    if kind in b"$=!":
        size = int(data[at + 1 : line])
        end += size + 2 if size >= 0 else 0
        return end if end <= len(data) else None
    if kind in b"*~>%|":
        items = int(data[at + 1 : line]) * (2 if kind in b"%|" else 1) + (kind == b"|")
        for _ in range(items):
            found = _resp_end(data, end)
            if found is None:
                return None
            end = found
    return end

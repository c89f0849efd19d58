"""Which letters a scan has met, in bounded memory: a private database of SQLite that goes to disk when it grows.

A set would need some hundred bytes per letter, and a table that starts to refuse makes millions of letters.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from writebehind.shared.letter import Origin

_TABLE = (
    "CREATE TABLE seen (origin TEXT PRIMARY KEY, digest BLOB, contested INT DEFAULT 0, expected INT DEFAULT 0,"
    " taken INT DEFAULT 0) WITHOUT ROWID"
)
_EXPECT = "INSERT INTO seen (origin, expected) VALUES (?, 1) ON CONFLICT DO UPDATE SET expected = 1"
_NOTE = "INSERT INTO seen (origin, digest) VALUES (?, ?) ON CONFLICT DO UPDATE SET digest = excluded.digest"


class Seen:
    """Letters by origin. One that is expected has an open row; one that is noted has a message."""

    def __init__(self) -> None:
        self._database = sqlite3.connect(
            "", isolation_level=None
        )  # an empty name: a temporary file, deleted at the end
        self._database.execute(_TABLE)
        self._database.execute("BEGIN")  # never committed: nobody else reads it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._database.close()

    def expect(self, origins: Iterable[Origin]) -> None:
        """Remember letters that have an open row, so that those without a message are found."""
        self._database.executemany(_EXPECT, [(_key(origin),) for origin in origins])

    def note(self, origin: Origin, digest: bytes) -> bool:
        """Remember a message. False when one of this origin is known and says something else: both are contested."""
        known = self.digest(origin)
        if known is None:
            self._database.execute(_NOTE, (_key(origin), digest))
        elif known != digest:
            self._database.execute("UPDATE seen SET contested = 1 WHERE origin = ?", (_key(origin),))
        return known is None or known == digest

    def digest(self, origin: Origin) -> bytes | None:
        """The digest of the first message of this origin; None when there was none."""
        found = self._database.execute("SELECT digest FROM seen WHERE origin = ?", (_key(origin),)).fetchone()
        return None if found is None else found[0]

    def contested(self, origin: Origin) -> bool:
        """Whether messages of this origin differ."""
        found = self._database.execute("SELECT contested FROM seen WHERE origin = ?", (_key(origin),)).fetchone()
        return found is not None and bool(found[0])

    def take(self, origin: Origin) -> bool:
        """True for the first who asks: several messages of one origin are one letter. It must have been noted."""
        statement = "UPDATE seen SET taken = 1 WHERE origin = ? AND taken = 0"
        return self._database.execute(statement, (_key(origin),)).rowcount == 1

    def untake(self) -> None:
        """Begin anew with `take`."""
        self._database.execute("UPDATE seen SET taken = 0")

    def missing(self) -> Iterator[Origin]:
        """Letters that were expected and have no message, in the order of their names."""
        for (key,) in self._database.execute(
            "SELECT origin FROM seen WHERE expected = 1 AND digest IS NULL ORDER BY origin"
        ):
            topic, topic_id, partition, offset = key.split("\0")
            yield Origin(topic, topic_id, int(partition), int(offset))


def _key(origin: Origin) -> str:
    return f"{origin.topic}\0{origin.topic_id}\0{origin.partition}\0{origin.offset}"  # no name holds a NUL

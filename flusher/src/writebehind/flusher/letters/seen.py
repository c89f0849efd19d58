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
    'CREATE TABLE seen (topic TEXT, topic_id TEXT, "partition" INT, "offset" INT, digest BLOB, contested INT DEFAULT 0,'
    ' expected INT DEFAULT 0, taken INT DEFAULT 0, PRIMARY KEY (topic, topic_id, "partition", "offset")) WITHOUT ROWID'
)
_WHERE = 'topic = ? AND topic_id = ? AND "partition" = ? AND "offset" = ?'
_KEY = 'topic, topic_id, "partition", "offset"'


class Seen:
    """Letters by origin. One that is expected has an open row; one that is noted has a message."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)  # an empty name: a temporary file, deleted at the end
        self._database.execute(_TABLE)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("BEGIN")  # never committed: nobody else reads it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._database.close()

    def expect(self, origins: Iterable[Origin]) -> None:
        """Remember letters that have an open row, so that those without a message are found."""
        statement = f"INSERT INTO seen ({_KEY}, expected) VALUES (?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET expected = 1"  # noqa: S608  # constants
        self._database.executemany(statement, [_key(origin) for origin in origins])

    def note(self, origin: Origin, digest: bytes) -> bool:
        """Remember a message. False when one of this origin is known and says something else: both are contested."""
        found = self._database.execute(f"SELECT digest FROM seen WHERE {_WHERE}", _key(origin)).fetchone()  # noqa: S608
        if found is not None and found[0] is not None:
            if found[0] == digest:
                return True
            self._database.execute(f"UPDATE seen SET contested = 1 WHERE {_WHERE}", _key(origin))  # noqa: S608
            return False
        statement = f"INSERT INTO seen ({_KEY}, digest) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET digest = excluded.digest"  # noqa: S608, E501
        self._database.execute(statement, (*_key(origin), digest))
        return True

    def digest(self, origin: Origin) -> bytes | None:
        """The digest of the first message of this origin; None when there was none."""
        found = self._database.execute(f"SELECT digest FROM seen WHERE {_WHERE}", _key(origin)).fetchone()  # noqa: S608
        return None if found is None else found[0]

    def contested(self, origin: Origin) -> bool:
        found = self._database.execute(f"SELECT contested FROM seen WHERE {_WHERE}", _key(origin)).fetchone()  # noqa: S608
        return found is not None and bool(found[0])

    def take(self, origin: Origin) -> bool:
        """True for the first who asks: several messages of one origin are one letter. It must have been noted."""
        statement = f"UPDATE seen SET taken = 1 WHERE {_WHERE} AND taken = 0"  # noqa: S608
        return self._database.execute(statement, _key(origin)).rowcount == 1

    def missing(self) -> Iterator[Origin]:
        """Letters that were expected and have no message. Nothing else may be asked meanwhile to change them."""
        statement = f"SELECT {_KEY} FROM seen WHERE expected = 1 AND digest IS NULL"  # noqa: S608
        for row in self._database.execute(statement):
            yield Origin(*row)


def _key(origin: Origin) -> tuple[str, str, int, int]:
    return origin.topic, origin.topic_id, origin.partition, origin.offset

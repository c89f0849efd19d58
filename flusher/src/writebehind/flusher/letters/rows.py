"""The rows of `letter`: which records were skipped, and what became of each since."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from writebehind.shared.letter import Origin
from writebehind.shared.settings import DatabaseSettings

from .. import servers
from ..triage import NotCommitted
from .item import DISCARDED, REFUSED, LetterRow

PAGE_ROWS = 1_000

# The pieces of statements about letters that are given as columns; the table is `l`.
COLUMNS = sql.SQL(
    'l.topic, l.topic_id, l.partition, l."offset", l.entity, l.state, l.replay_count, l.changed_at, l.changed_by'
)
KEY = sql.SQL('l.topic, l.topic_id, l.partition, l."offset"')
GIVEN = sql.SQL('unnest(%s::text[], %s::text[], %s::int[], %s::bigint[]) AS s(topic, topic_id, partition, "offset")')
SAME = sql.SQL(
    'l.topic = s.topic AND l.topic_id = s.topic_id AND l.partition = s.partition AND l."offset" = s."offset"'
)


class Rows:
    """The table on a connection in autocommit mode."""

    def __init__(self, connection: psycopg.Connection[Any], schema: str) -> None:
        self._connection = connection
        table = sql.Identifier(schema, "letter")
        self._select = sql.SQL("SELECT {} FROM {} AS l JOIN {} ON {}").format(COLUMNS, table, GIVEN, SAME)
        self._topics = sql.SQL("SELECT DISTINCT entity, topic FROM {}").format(table)
        self._open = sql.SQL(
            "SELECT {key} FROM {table} AS l WHERE l.state = %s AND l.topic = ANY(%s) AND ({key}) > (%s, %s, %s, %s) "
            "ORDER BY {key} LIMIT %s"
        ).format(key=KEY, table=table)
        self._discard = sql.SQL(
            "UPDATE {} AS l SET state = %s, changed_at = now(), changed_by = %s FROM {} WHERE {} AND l.state = %s"
        ).format(table, GIVEN, SAME)

    def topics(self) -> list[tuple[str, str]]:
        """Entities that have rows, each with its topics; also those that are declared no more."""
        return self._connection.execute(self._topics).fetchall()

    def open(self, topics: Sequence[str]) -> Iterator[list[Origin]]:
        """The letters that are still refused, page by page."""
        last: tuple[str, str, int, int] = ("", "", -1, -1)
        while rows := self._connection.execute(self._open, (REFUSED, list(topics), *last, PAGE_ROWS)).fetchall():
            yield [Origin(*row) for row in rows]
            last = rows[-1]

    def find(self, origins: Sequence[Origin]) -> dict[Origin, LetterRow]:
        """The rows of those that have one."""
        rows = self._connection.execute(self._select, columns(origins)).fetchall()
        return {row.origin: row for row in map(letter_row, rows)}

    def discard(self, origins: Sequence[Origin], by: str) -> int:
        """Close letters for good, all or none of them. Gives how many were still open. Raises NotCommitted."""
        self._connection.execute("BEGIN")
        params = (DISCARDED, by, *columns(origins), REFUSED)
        count = self._connection.execute(self._discard, params).rowcount
        answer = self._connection.execute("COMMIT").statusmessage
        if answer != "COMMIT":
            raise NotCommitted(f"COMMIT was answered with {answer}")
        return count


def columns(origins: Sequence[Origin]) -> tuple[list[str], list[str], list[int], list[int]]:
    """Origins as the parameters of GIVEN."""
    return (
        [origin.topic for origin in origins],
        [origin.topic_id for origin in origins],
        [origin.partition for origin in origins],
        [origin.offset for origin in origins],
    )


def letter_row(row: Sequence[Any]) -> LetterRow:
    """A row of COLUMNS."""
    return LetterRow(Origin(*row[:4]), *row[4:])


@contextmanager
def bookkeeping(settings: DatabaseSettings) -> Iterator[Rows]:
    """The table, for as long as a command runs. Raises ConfigurationError."""
    with servers.database(settings, "writebehind-letters") as connection:
        connection.commit()
        connection.autocommit = True  # a long read must not hold back vacuum
        yield Rows(connection, settings.schema_)

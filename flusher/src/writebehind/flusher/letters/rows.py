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

_COLUMNS = 'l.topic, l.topic_id, l.partition, l."offset", l.entity, l.state, l.replay_count, l.changed_at, l.changed_by'
_GIVEN = 'unnest(%s::text[], %s::text[], %s::int[], %s::bigint[]) AS s(topic, topic_id, partition, "offset")'
_SAME = (
    'l.topic = s.topic AND l.topic_id = s.topic_id AND l.partition = s.partition AND l."offset" = s."offset"'
)


class Rows:
    """The table on a connection in autocommit mode."""

    def __init__(self, connection: psycopg.Connection[Any], schema: str) -> None:
        self._connection = connection
        table = sql.Identifier(schema, "letter")
        self._select = sql.SQL(f"SELECT {_COLUMNS} FROM {{}} AS l JOIN {_GIVEN} ON {_SAME}").format(table)
        self._topics = sql.SQL(
            "SELECT DISTINCT topic FROM {} WHERE %(all)s OR entity = ANY(%(entities)s)"
        ).format(table)
        self._open = sql.SQL(
            'SELECT topic, topic_id, partition, "offset" FROM {} AS l WHERE l.state = %s AND l.topic = ANY(%s) '
            'AND (topic, topic_id, partition, "offset") > (%s, %s, %s, %s) '
            'ORDER BY topic, topic_id, partition, "offset" LIMIT %s'
        ).format(table)
        self._discard = sql.SQL(
            f"UPDATE {{}} AS l SET state = %s, changed_at = now(), changed_by = %s FROM {_GIVEN} "
            f"WHERE {_SAME} AND l.state = %s"
        ).format(table)

    def topics(self, entities: frozenset[str]) -> list[str]:
        """Topics that have rows; also of entities that are declared no more. No entities: of all."""
        params = {"all": not entities, "entities": sorted(entities)}
        return sorted(topic for (topic,) in self._connection.execute(self._topics, params).fetchall())

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
    """Origins as the parameters of an `unnest`."""
    return (
        [origin.topic for origin in origins],
        [origin.topic_id for origin in origins],
        [origin.partition for origin in origins],
        [origin.offset for origin in origins],
    )


def letter_row(row: Sequence[Any]) -> LetterRow:
    """A row of the table's columns in their order."""
    return LetterRow(Origin(*row[:4]), *row[4:])


@contextmanager
def bookkeeping(settings: DatabaseSettings) -> Iterator[Rows]:
    """The table, for as long as a command runs. Raises ConfigurationError."""
    with servers.database(settings, "writebehind-letters") as connection:
        connection.commit()
        connection.autocommit = True  # a long read must not hold back vacuum
        yield Rows(connection, settings.schema_)

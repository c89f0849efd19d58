"""One chunk of letters of one entity, in one transaction: what the letters say, and that they said it.

A letter's row changes its state in the transaction that writes what the letter holds, so it is applied once however
often a replay is run or killed.

The transaction first takes the progress rows of the topic, as every flush does. Flushes of the entity wait for the few
milliseconds of a chunk: a flush that has read the tombstones must not be overtaken by a delete of ours, nor we by one
of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from writebehind.shared.declaration import Declaration
from writebehind.shared.fold import fold
from writebehind.shared.letter import Origin
from writebehind.shared.record import KEYS
from writebehind.shared.settings import Settings

from ..database import connect
from ..packed import pack
from ..preflight import Prepared
from ..rows import Rows
from ..triage import NotCommitted
from .item import REFUSED, LetterRow
from .outcome import Outcome, Result, judge, order, refusal, split
from .rows import COLUMNS, GIVEN, KEY, SAME, columns, letter_row
from .validate import Valid

Results = dict[Origin, Result]


class Applier:
    """Applies the letters of one entity. `run` names this replay in the rows it changes."""

    def __init__(self, settings: Settings, prepared: Prepared, topic: str, run: str) -> None:
        self._declaration, self._slots = prepared.declaration, prepared.slots
        self._topic, self._run = topic, run
        self._url = settings.database.url.get_secret_value()
        self._timeouts = {
            "statement_timeout_s": settings.database.statement_timeout_s,
            "lock_timeout_s": settings.database.lock_timeout_s,
        }
        schema = settings.database.schema_
        self._statements = prepared.statements(schema)
        self._rows = Rows(self._declaration, self._statements)
        self._sql = _Sql(schema)
        self._versions = _versions_of(self._declaration, prepared.table.schema)
        self._connection: psycopg.Connection[Any] | None = None

    def apply(self, letters: Sequence[Valid], *, commit: bool) -> Results:
        """Try letters in one transaction, which is rolled back without `commit`. Raises what is not their own fault."""
        connection = self._connected()
        try:
            connection.execute("BEGIN")
            connection.execute("SET CONSTRAINTS ALL IMMEDIATE")  # at COMMIT, nobody could say whose fault it was
            connection.execute(self._sql.hold, (self._topic,))
            rows = connection.execute(self._sql.lock, columns([letter.origin for letter in letters])).fetchall()
            found = {row.origin: row for row in map(letter_row, rows)}
            results = {
                letter.origin: self._closed(found.get(letter.origin))
                for letter in letters
                if letter.origin not in found or found[letter.origin].state != REFUSED
            }
            open_letters = order([letter for letter in letters if letter.origin not in results])
            tried = self._try(connection, open_letters) if open_letters else {}
            self._record(connection, tried)
            answer = connection.execute("COMMIT" if commit else "ROLLBACK").statusmessage
        except BaseException:
            self.close()
            raise
        if commit and answer != "COMMIT":
            raise NotCommitted(f"COMMIT was answered with {answer}")
        return results | tried

    def close(self) -> None:
        """Close the connection, which also rolls back what it had begun. The next chunk opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = connect(self._url, name="writebehind-letters replay", **self._timeouts)
        return self._connection

    def _closed(self, row: LetterRow | None) -> Result:
        if row is None:
            return Result(Outcome.CLOSED, "its row is gone")
        # Ours, by an attempt whose COMMIT was answered to nobody.
        if row.changed_by == self._run and row.state in (Outcome.APPLIED, Outcome.SUPERSEDED):
            return Result(Outcome(row.state))
        return Result(Outcome.CLOSED, f"{row.state} by {row.changed_by}")

    def _try(self, connection: psycopg.Connection[Any], letters: list[Valid]) -> Results:
        """All together, or in the parts that the database takes."""
        connection.execute("SAVEPOINT letters")
        try:
            self._write(connection, letters)
            results = self._judge(connection, letters)
        except BaseException as error:
            reason = refusal(error)
            if reason is None:
                raise
            connection.execute("ROLLBACK TO SAVEPOINT letters")
            connection.execute("RELEASE SAVEPOINT letters")
            parts = split(letters)
            if not parts:
                return {letters[0].origin: Result(Outcome.REFUSED, reason)}
            return {origin: result for part in parts for origin, result in self._try(connection, part).items()}
        connection.execute("RELEASE SAVEPOINT letters")
        return results

    def _write(self, connection: psycopg.Connection[Any], letters: list[Valid]) -> None:
        rows = [letter.row for letter in letters]
        self._rows.apply(connection, fold(self._declaration, rows, self._rows.tombstones_of(connection, rows)))

    def _judge(self, connection: psycopg.Connection[Any], letters: list[Valid]) -> Results:
        width = len(self._declaration.keys)
        keys = [list(column) for column in zip(*[letter.row[KEYS : KEYS + width] for letter in letters], strict=True)]
        types = (*self._statements.key_types, "int8")
        rows = connection.execute(self._versions, pack(types, [*keys, range(len(letters))]), binary=True).fetchall()
        versions = {index: dict(enumerate(array or (), 1)) for index, array in rows}
        buried = self._rows.tombstones(connection, [letter.key_text for letter in letters])
        return {
            letter.origin: judge(letter, self._slots, versions.get(index), buried.get(letter.key_text, 0))
            for index, letter in enumerate(letters)
        }

    def _record(self, connection: psycopg.Connection[Any], results: Results) -> None:
        origins = list(results)
        refused = [results[origin].outcome is Outcome.REFUSED for origin in origins]
        states = [str(results[origin].outcome) for origin in origins]
        connection.execute(self._sql.record, (self._run, *columns(origins), states, [int(again) for again in refused]))


class _Sql:
    """Statements on the bookkeeping tables."""

    def __init__(self, schema: str) -> None:
        letter, progress = sql.Identifier(schema, "letter"), sql.Identifier(schema, "progress")
        self.hold = sql.SQL("SELECT FROM {} WHERE topic = %s ORDER BY partition FOR NO KEY UPDATE").format(progress)
        self.lock = sql.SQL("SELECT {} FROM {} AS l JOIN {} ON {} ORDER BY {} FOR UPDATE OF l").format(
            COLUMNS, letter, GIVEN, SAME, KEY
        )
        self.record = sql.SQL(
            "UPDATE {} AS l SET state = s.state, replay_count = l.replay_count + s.again, changed_at = now(), "
            "changed_by = %s FROM unnest(%s::text[], %s::text[], %s::int[], %s::bigint[], %s::text[], %s::int[]) "
            'AS s(topic, topic_id, partition, "offset", state, again) WHERE {}'
        ).format(letter, SAME)


def _versions_of(declaration: Declaration, schema: str) -> bytes:
    """The versions of rows by key: (place in the parameters, array or NULL). Parameters: key columns, places."""
    d = declaration
    names = [sql.Identifier(f"k{c.position}") for c in d.keys]
    types = [sql.SQL("%b::" + c.kind.param_type + "[]") for c in d.keys]  # pyright: ignore[reportArgumentType]
    same = [sql.SQL("t.{} = s.{}").format(sql.Identifier(c.name), name) for c, name in zip(d.keys, names, strict=True)]
    versions = sql.Identifier("t", d.write_behind.versions_column) if d.versioned else sql.SQL("NULL::int8[]")
    return (
        sql.SQL("SELECT s.n, {} FROM {} AS t JOIN unnest({}, %b::int8[]) AS s({}, n) ON {}")
        .format(
            versions,
            sql.Identifier(schema, d.table),
            sql.SQL(", ").join(types),
            sql.SQL(", ").join(names),
            sql.SQL(" AND ").join(same),
        )
        .as_bytes(None)
    )

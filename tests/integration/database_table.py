"""One entity's table on the real database, written by the flusher's own writer, without Kafka and the cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql

from writebehind.embedded.isolation import Isolation
from writebehind.flusher.batch import Batch, Span
from writebehind.flusher.database import Writer
from writebehind.shared import table
from writebehind.shared.declaration import Declaration, declaration_of
from writebehind.shared.entity import Entity
from writebehind.shared.fold import fold
from writebehind.shared.record import Codec, Row
from writebehind.shared.statement import Statements

TOPIC = "topic"


class Table:
    """Made by `table_of`. Batches are committed as a lane would, each with its partition's progress."""

    def __init__(
        self,
        declaration: Declaration,
        info: table.TableInfo,
        statements: Statements,
        url: str,
        bookkeeping: str,
        **timeouts: float,
    ) -> None:
        self.declaration = declaration
        self.info = info
        self._codec = Codec(declaration)
        self._next = 0
        self._version = 0
        self.url = url
        limits: dict[str, Any] = {"statement_timeout_s": 60, "lock_timeout_s": 60, "stall_timeout_s": 60, **timeouts}
        self.writer = Writer(declaration, statements, url, bookkeeping=bookkeeping, **limits)

    def write(self, rows: Sequence[Row]) -> None:
        """Commit decoded records as one batch."""
        span = Span(0, 1, self._next, self._next + len(rows))
        batch = Batch(TOPIC, rows=list(rows), spans={0: span})
        if not self.declaration.write_behind.deletes:
            batch.folded = fold(self.declaration, batch.rows)
        try:
            self.writer.write(batch, {})
        except psycopg.Error:
            self.writer.disconnect()
            raise
        self._next = span.next

    def patch(self, *patches: tuple[Any, dict[str, Any]]) -> None:
        """Write patches, given as a caller gives them, in one batch. An empty patch deletes."""
        self.write([self.row(key, patch) for key, patch in patches])

    def row(self, key: Any, patch: dict[str, Any]) -> Row:
        """A patch on its way: checked, encoded, decoded."""
        self._version += 1
        pairs = [
            (c.position, value if value is None or c.kind.to_wire is None else c.kind.to_wire(value))
            for c, value in (self.declaration.check_patch(patch) if patch else [])
        ]
        return self._codec.decode([self._codec.encode(self._version, 0, self.declaration.check_key(key), pairs)])[0]

    def read(self, *keys: Any) -> dict[tuple[Any, ...], dict[str, Any]]:
        """Rows by key, in the form that callers get; `versions` is the row's array."""
        by_text = {self.declaration.key_text(self.declaration.check_key(key)): key for key in keys}
        found: dict[tuple[Any, ...], dict[str, Any]] = {}
        for text, row in self.writer.find(by_text).rows.items():
            key = by_text[text]
            loaded = {c.name: c.loaded(value) for c, value in zip(self.declaration.fields, row[:-1], strict=True)}
            found[key if isinstance(key, tuple) else (key,)] = {**loaded, "versions": row[-1]}
        return found

    def execute(self, text: str, *parameters: Any) -> None:
        """Run a statement of the test's own."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(text.encode(), parameters)


@contextmanager
def table_of(
    corner: Isolation, cls: type[Entity], ddl: str, *, zone: str = "UTC", **timeouts: float
) -> Iterator[Table]:
    """Create an entity's table by `ddl`, in sessions of a time zone. `timeouts` are those of the writer."""
    declaration = declaration_of(cls)
    url = corner.database_url + quote(f" -ctimezone={zone}", safe="")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(ddl.encode())
        info = table.parse(connection.execute(table.QUERY, table.params(declaration)).fetchall())
        assert info is not None
        problems = table.problems(declaration, info)
        assert problems == [], problems
        _create_bookkeeping(connection, corner.bookkeeping_schema)
    # Slots as they are after a few changes of the declaration: not in the order of the fields, and with gaps.
    slots = {c.name: 2 * at for at, c in enumerate(reversed(declaration.versioned), 1)}
    statements = Statements(
        declaration,
        schema=corner.schema,
        column_types={name: column.type_name for name, column in info.columns.items()},
        defaults={name: column.default_expr for name, column in info.columns.items()},
        slots=slots,
        bookkeeping=corner.bookkeeping_schema,
    )
    made = Table(declaration, info, statements, url, corner.bookkeeping_schema, **timeouts)
    try:
        yield made
    finally:
        made.writer.disconnect()


def _create_bookkeeping(connection: psycopg.Connection[Any], schema: str) -> None:
    name = sql.Identifier(schema)
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
    for file in sorted((files("writebehind.flusher") / "sql").iterdir(), key=str):
        text: Any = file.read_text()
        connection.execute(sql.SQL(text).format(schema=name))
    connection.execute(sql.SQL("INSERT INTO {}.progress VALUES ({}, 0, 'id', 0, 1, 'test', now())").format(name, TOPIC))

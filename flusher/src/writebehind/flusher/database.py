"""Writing a batch to Postgres: one transaction, fenced by the progress rows, its COMMIT checked."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.numeric import Int8BinaryDumper

from writebehind.shared.declaration import Declaration
from writebehind.shared.fold import Folded, fold
from writebehind.shared.record import KEYS
from writebehind.shared.statement import Statements

from .batch import Batch
from .triage import NotCommitted

_INT8_OID = 20
_INT8_ARRAY_OID = 1016


class Int8Array(list[int | None]):
    """A list that is sent as `bigint[]`, whatever it holds, packed in one call instead of one per element."""


class _Int8ArrayDumper(Dumper):
    format = Format.BINARY
    oid = _INT8_ARRAY_OID

    def dump(self, obj: Int8Array) -> bytes:
        # Layout: dimensions, has-nulls, element type, length, lower bound; then per element its size (-1:
        # NULL) and value.
        count = len(obj)
        if count == 0:
            return struct.pack("!iiI", 0, 0, _INT8_OID)
        header = struct.pack("!iiIii", 1, 1, _INT8_OID, count, 1)
        if None not in obj:
            flat: list[int] = [8] * (2 * count)
            flat[1::2] = obj  # type: ignore[assignment]  # None was ruled out
            return header + struct.pack("!" + "iq" * count, *flat)
        null, pack = b"\xff\xff\xff\xff", struct.Struct("!iq").pack
        return header + b"".join([null if value is None else pack(8, value) for value in obj])


def connect(url: str, *, name: str, statement_timeout_s: float, lock_timeout_s: float) -> psycopg.Connection[Any]:
    """A connection in autocommit mode, so that BEGIN and COMMIT are statements whose answers we see.

    The server ends a transaction of ours that stands idle for 10 s: a stopped process must not hold the progress rows.
    """
    connection = psycopg.connect(url, autocommit=True, connect_timeout=5, application_name=name)
    connection.adapters.register_dumper(int, Int8BinaryDumper)  # one type for every int: one prepared statement
    connection.adapters.register_dumper(Int8Array, _Int8ArrayDumper)
    settings = {
        "statement_timeout": f"{int(statement_timeout_s * 1000)}ms",
        "lock_timeout": f"{int(lock_timeout_s * 1000)}ms",
        "idle_in_transaction_session_timeout": "10s",
        # A plan made for one batch's arrays may join by scanning the whole table; the generic plan looks each key up.
        "plan_cache_mode": "force_generic_plan",
    }
    for setting, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, false)", (setting, value))
    return connection


class Writer:
    """One entity's statements on one connection, which is opened when first needed and replaced after a failure."""

    def __init__(
        self,
        declaration: Declaration,
        statements: Statements,
        url: str,
        *,
        bookkeeping: str,
        statement_timeout_s: float,
        lock_timeout_s: float,
    ) -> None:
        self._declaration = declaration
        self._statements = statements
        self._url = url
        self._timeouts = {"statement_timeout_s": statement_timeout_s, "lock_timeout_s": lock_timeout_s}
        self._advance = (
            sql.SQL("SELECT {}(%b::text[], %b::int8[]::int4[], %b::int8[], %b::int8[], %b::int8[])")
            .format(sql.Identifier(bookkeeping, "advance"))
            .as_bytes(None)
        )
        self._committed = (
            sql.SQL(
                "SELECT count(*) FROM {} AS p JOIN unnest(%b::int8[], %b::int8[], %b::int8[]) AS s(n, e, o) "
                "ON p.topic = %b AND p.partition = s.n AND p.owner_epoch = s.e AND p.next_offset = s.o"
            )
            .format(sql.Identifier(bookkeeping, "progress"))
            .as_bytes(None)
        )
        self._connection: psycopg.Connection[Any] | None = None

    def write(self, batch: Batch) -> Folded:
        """Commit a batch and the progress of its partitions, or raise and leave nothing behind."""
        connection = self._connected()
        cursor = connection.cursor(binary=True)
        cursor.execute("BEGIN")
        self._advance_progress(cursor, batch)
        folded = batch.folded or fold(self._declaration, batch.rows, self._tombstones(cursor, batch))
        if folded.deletes:
            self._apply_deletes(cursor, folded)
        if folded.rows:
            params = _params(self._statements.merge_types, self._statements.merge_params(folded))
            cursor.execute(self._statements.merge, params, prepare=True)
        cursor.execute("COMMIT")
        if cursor.statusmessage != "COMMIT":
            raise NotCommitted(f"COMMIT was answered with {cursor.statusmessage}")
        return folded

    def committed(self, batch: Batch) -> bool:
        """Whether every partition of the batch stands, under our epoch, exactly where the batch would have put it."""
        spans = batch.spans.values()
        columns = [
            Int8Array(s.partition for s in spans),
            Int8Array(s.epoch for s in spans),
            Int8Array(s.next for s in spans),
        ]
        row = self._connected().execute(self._committed, [*columns, batch.topic]).fetchone()
        return row is not None and row[0] == len(spans)

    def select(self, keys: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        """Rows by key columns, as `Statements.select` gives them, outside any batch."""
        params = _params(self._statements.key_types, keys)
        return self._connected().execute(self._statements.select, params, binary=True).fetchall()

    def disconnect(self) -> None:
        """Close the connection, which also rolls back what it had begun. The next write opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = connect(
                self._url, name=f"writebehind-flusher {self._declaration.name}", **self._timeouts
            )
        return self._connection

    def _advance_progress(self, cursor: psycopg.Cursor[Any], batch: Batch) -> None:
        # First in the transaction: it takes the row locks that keep a new owner waiting until we have
        # committed or failed.
        spans = sorted(batch.spans.values(), key=lambda span: span.partition)
        columns: list[Sequence[Any]] = [
            [batch.topic] * len(spans),
            Int8Array(span.partition for span in spans),
            Int8Array(span.epoch for span in spans),
            Int8Array(span.expected for span in spans),
            Int8Array(span.next for span in spans),
        ]
        cursor.execute(self._advance, columns, prepare=True)

    def _tombstones(self, cursor: psycopg.Cursor[Any], batch: Batch) -> dict[str, int]:
        width = len(self._declaration.keys)
        texts = {self._declaration.key_text(row[KEYS : KEYS + width]) for row in batch.rows}
        cursor.execute(self._statements.tombstones, (sorted(texts),), prepare=True)
        return dict(cursor.fetchall())

    def _apply_deletes(self, cursor: psycopg.Cursor[Any], folded: Folded) -> None:
        cursor.execute(
            self._statements.bury, _params(("text", "int8"), self._statements.bury_params(folded)), prepare=True
        )
        params = _params((*self._statements.key_types, "int8"), self._statements.delete_params(folded))
        cursor.execute(self._statements.delete, params, prepare=True)
        cursor.execute(self._statements.reset, params, prepare=True)


def _params(types: Sequence[str], columns: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """Columns as psycopg parameters: whole numbers go through the packed dumper."""
    return [
        Int8Array(column) if type_ == "int8" else list(column) for type_, column in zip(types, columns, strict=True)
    ]

"""Writing a batch to Postgres: one transaction, fenced by the progress rows, its COMMIT checked."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from writebehind.shared import utc
from writebehind.shared.declaration import Declaration
from writebehind.shared.fold import Folded, fold
from writebehind.shared.statement import Statements

from . import watchdog
from .batch import Batch, Settled, Span
from .isolation import write_all_but_refused
from .packed import Packed, PackedDumper, pack
from .rows import Found, Rows
from .triage import NotCommitted, Verdict, triage
from .tries import Tries
from .who import process

CONNECT_TIMEOUT_S = 5

log = logging.getLogger("writebehind.flusher")


def connect(url: str, *, name: str, statement_timeout_s: float, lock_timeout_s: float) -> psycopg.Connection[Any]:
    """A connection in autocommit mode, so that BEGIN and COMMIT are statements whose answers we see.

    The server ends a transaction of ours that stands idle for 10 s: a stopped process must not hold the progress rows.
    """
    connection = psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, application_name=name)
    connection.adapters.register_dumper(Packed, PackedDumper)
    utc.register(connection)
    settings = {
        "statement_timeout": f"{int(statement_timeout_s * 1000)}ms",
        "lock_timeout": f"{int(lock_timeout_s * 1000)}ms",
        "idle_in_transaction_session_timeout": "10s",
        # Each key is to be looked up. A plan made for one batch's arrays may go over the whole table instead; so may
        # the generic one of a table that is still small, and it stays in use until somebody analyzes the table.
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
    }
    pid = 0
    with watchdog.guard(connection, CONNECT_TIMEOUT_S):
        for setting, value in settings.items():
            row = connection.execute("SELECT pg_backend_pid(), set_config(%s, %s, false)", (setting, value)).fetchone()
            pid = row[0] if row else 0
    watchdog.know(connection, url, pid)
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
        stall_timeout_s: float,
        key_indexes: Collection[tuple[str, str]] | None = None,
    ) -> None:
        self.declaration = declaration
        self._key_indexes = key_indexes
        self._stall_timeout_s = stall_timeout_s
        self._rows = Rows(declaration, statements)
        self._url = url
        self._by = process()  # who skipped a record
        self._timeouts = {"statement_timeout_s": statement_timeout_s, "lock_timeout_s": lock_timeout_s}
        self._advance = _statement(
            "SELECT {}(%b::text[], %b::int8[]::int4[], %b::int8[], %b::int8[], %b::int8[], %b::int8[])",
            bookkeeping,
            "advance",
        )
        self._committed = _statement(
            "SELECT count(*) FROM {} AS p JOIN unnest(%b::int8[], %b::int8[], %b::int8[]) AS s(n, e, o) "
            "ON p.topic = %b AND p.partition = s.n AND p.owner_epoch = s.e AND p.next_offset = s.o",
            bookkeeping,
            "progress",
        )
        self._settled = _statement(
            "UPDATE {} AS p SET settled_offset = s.o FROM unnest(%b::int8[], %b::int8[], %b::int8[]) AS s(n, e, o) "
            "WHERE p.topic = %b AND p.partition = s.n AND p.owner_epoch = s.e",
            bookkeeping,
            "progress",
        )
        self._owned = _statement(
            "SELECT p.partition, p.owner_epoch FROM {} AS p JOIN unnest(%b::int8[], %b::int8[]) AS s(n, e) "
            "ON p.topic = %b AND p.partition = s.n AND p.owner_epoch = s.e",
            bookkeeping,
            "progress",
        )
        self._skip = _statement(
            'INSERT INTO {} (topic, topic_id, partition, "offset", entity, changed_by) '
            "SELECT %b, %b, p, o, %b, %b FROM unnest(%b::int8[], %b::int8[]) AS s(p, o) ON CONFLICT DO NOTHING",
            bookkeeping,
            "letter",
        )
        self._connection: psycopg.Connection[Any] | None = None

    def pack(self, folded: Folded) -> list[Packed]:
        """The parameters of the batch statement, ready to send. Raises when a value has no encoding."""
        return self._rows.pack(folded)

    def write(self, batch: Batch, settled: Settled) -> Folded:
        """Commit a batch and the progress of its partitions, or raise and leave nothing behind.

        `settled` says how far the cache knows, which goes into the same rows.
        """
        connection = self._connected()
        with watchdog.guard(connection, self._stall_timeout_s):
            return self._write(connection, batch, settled)

    def _write(self, connection: psycopg.Connection[Any], batch: Batch, settled: Settled) -> Folded:
        if batch.folded is not None:
            # Nothing has to be read first: the transaction goes out in three pieces. `sync` waits for the answers, so
            # nothing is sent after a BEGIN that failed: it would be committed by itself.
            params = batch.packed or self.pack(batch.folded)
            with connection.pipeline() as pipeline:
                connection.execute("BEGIN")
                self._advance_progress(connection, batch, settled)
                # The server's time-out for idle transactions runs only after a Sync. Without these, a process that is
                # suspended while it sends would hold the progress rows for as long as its connection lives.
                pipeline.sync()
                self._rows.apply(connection, batch.folded, params)
                if batch.letters:
                    self._record_letters(connection, batch)
                pipeline.sync()
                committed = connection.execute("COMMIT")
            folded = batch.folded
        else:
            connection.execute("BEGIN")
            self._advance_progress(connection, batch, settled)
            folded = fold(self.declaration, batch.rows, self._rows.tombstones_of(connection, batch.rows))
            self._rows.apply(connection, folded)
            if batch.letters:
                self._record_letters(connection, batch)
            committed = connection.execute("COMMIT")
        _check_committed(committed)
        return folded

    def triage(self, batch: Batch, error: BaseException) -> Verdict:
        """The verdict on an error of writing a batch."""
        return triage(error, self._key_indexes, repeats=batch.streak.add(error))

    def write_parts(self, batch: Batch, settled: Settled) -> dict[int, BaseException]:
        """Write what the database takes of a batch that it refused as a whole, and leave the transaction open.

        Returns the rows that are refused, by index; their letters must be safe before `commit_parts`. Raises what is
        not their fault.
        """
        connection = self._connected()
        with watchdog.guard(connection, self._stall_timeout_s):
            if connection.info.transaction_status is not TransactionStatus.IDLE:
                connection.execute("ROLLBACK")
            return self._write_parts(connection, batch, settled)

    def _write_parts(
        self, connection: psycopg.Connection[Any], batch: Batch, settled: Settled
    ) -> dict[int, BaseException]:
        connection.execute("BEGIN")
        self._advance_progress(connection, batch, settled)
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")  # one that is deferred would not say which row it was
        tombstones = self._rows.tombstones_of(connection, batch.rows)
        connection.execute("SAVEPOINT attempt", prepare=False)

        def blame(error: BaseException) -> None:
            if triage(error, self._key_indexes, repeats=batch.streak.length) is not Verdict.POISON:
                raise error

        tries = Tries(connection, self._rows.written, blame)
        refused = write_all_but_refused(
            self.declaration,
            batch.rows,
            tombstones,
            lambda parts: tries.try_each(partial(self._rows.commands, part) for part in parts),
        )
        tries.end()
        log.info(
            "%s: %d records of a batch are refused, found with %d tries (%d statements)",
            batch.topic,
            len(refused),
            tries.count,
            tries.statements,
        )
        return refused

    def commit_parts(self, batch: Batch) -> None:
        """Commit what `write_parts` wrote, and that the records which became letters since are skipped."""
        connection = self._connected()
        with watchdog.guard(connection, self._stall_timeout_s):
            if batch.letters:
                self._record_letters(connection, batch)
            _check_committed(connection.execute("COMMIT"))

    def committed(self, batch: Batch) -> bool:
        """Whether every partition of the batch stands, under our epoch, exactly where the batch would have put it."""
        spans = batch.spans.values()
        columns = [[s.partition for s in spans], [s.epoch for s in spans], [s.next for s in spans]]
        params = [*pack(("int8", "int8", "int8"), columns), batch.topic]
        connection = self._connected()
        with watchdog.guard(connection, self._stall_timeout_s):
            row = connection.execute(self._committed, params).fetchone()
        return row is not None and row[0] == len(spans)

    def owned(self, topic: str, places: Collection[tuple[int, int]]) -> set[tuple[int, int]]:
        """Those of these partitions, with the epoch they were claimed under, that nobody has claimed since."""
        columns = [[partition for partition, _ in places], [epoch for _, epoch in places]]
        connection = self._connected()
        with watchdog.guard(connection, self._stall_timeout_s):
            rows = connection.execute(self._owned, [*pack(("int8", "int8"), columns), topic]).fetchall()
        return {(partition, epoch) for partition, epoch in rows}

    def record_settled(self, topic: str, settled: Settled) -> None:
        """Say how far the cache knows of the partitions that are still ours, outside any batch."""
        columns = [[*settled], [epoch for epoch, _ in settled.values()], [offset for _, offset in settled.values()]]
        connection = self._connected()
        with watchdog.guard(connection, self._stall_timeout_s):
            connection.execute(self._settled, [*pack(("int8", "int8", "int8"), columns), topic])

    def find(self, texts: Collection[str]) -> Found:
        """What there is of these keys, by key text, outside any batch."""
        connection = self._connected()
        with watchdog.guard(connection, self._stall_timeout_s):
            return self._rows.find(connection, texts)

    def disconnect(self) -> None:
        """Close the connection, which also rolls back what it had begun. The next write opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = connect(self._url, name=f"writebehind-flusher {self.declaration.name}", **self._timeouts)
        return self._connection

    def _advance_progress(self, connection: psycopg.Connection[Any], batch: Batch, settled: Settled) -> None:
        # First in the transaction: it takes the row locks that keep a new owner waiting until we have
        # committed or failed.
        spans = sorted(batch.spans.values(), key=lambda span: span.partition)
        columns: list[Sequence[Any]] = [
            [batch.topic] * len(spans),
            [span.partition for span in spans],
            [span.epoch for span in spans],
            [span.expected for span in spans],
            [span.next for span in spans],
            [_settled_offset(settled, span) for span in spans],
        ]
        connection.execute(self._advance, pack(("text", *["int8"] * 5), columns), prepare=True)

    def _record_letters(self, connection: psycopg.Connection[Any], batch: Batch) -> None:
        places = [draft.place for draft in batch.letters]
        columns = [[partition for partition, _ in places], [offset for _, offset in places]]
        params = [batch.topic, batch.topic_id, self.declaration.name, self._by, *pack(("int8", "int8"), columns)]
        # Not prepared: in the pipeline of a batch that is refused it is skipped, and psycopg would keep its name.
        connection.execute(self._skip, params, prepare=False)


def _statement(text: LiteralString, bookkeeping: str, name: str) -> bytes:
    """A statement about a table or function of the bookkeeping, which stands for `{}`."""
    return sql.SQL(text).format(sql.Identifier(bookkeeping, name)).as_bytes(None)


def _check_committed(answer: psycopg.Cursor[Any]) -> None:
    if answer.statusmessage != "COMMIT":
        raise NotCommitted(f"COMMIT was answered with {answer.statusmessage}")


def _settled_offset(settled: Settled, span: Span) -> int | None:
    """How far the cache knows of a span's partition; None while nobody knows that under its epoch."""
    epoch, offset = settled.get(span.partition, (None, None))
    return offset if epoch == span.epoch else None

"""A database connection, as far as flusher and claims use psycopg's, over the database in memory.

A statement is known by its text, so what is run is what the flusher made; one that is not known is an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import psycopg
from psycopg import errors, sql
from psycopg.pq import TransactionStatus

from writebehind.flusher.isolation import Refusal

from . import statements
from .database import Database, Transaction
from .world import Process, World

_TRANSACTION = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "SET CONSTRAINTS", "SET LOCAL")
_LOST = (psycopg.OperationalError, errors.AdminShutdown, errors.IdleInTransactionSessionTimeout)
_FAILED: tuple[type[psycopg.Error], ...] = (
    *(errors.DeadlockDetected, errors.DiskFull, errors.ReadOnlySqlTransaction, errors.QueryCanceled),
    *(errors.SerializationFailure, errors.UndefinedTable, errors.LockNotAvailable, errors.FeatureNotSupported),
)


class Answer:
    """A cursor after its statement."""

    def __init__(self, tag: str = "", rows: Sequence[tuple[Any, ...]] = ()) -> None:
        self.statusmessage = tag
        self._rows = list(rows)

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._rows[0] if self._rows else None

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows


class Connection:
    """One connection of one process, in autocommit mode."""

    def __init__(self, world: World, database: Database, process: Process) -> None:
        self._world = world
        self._database = database
        self._process = process
        self._transaction: Transaction | None = None
        self._pipelined = False
        self._error: psycopg.Error | None = None  # of a pipeline that is not over yet
        self.closed = False
        process.on_end.append(self._drop)

    @property
    def info(self) -> Connection:
        return self

    @property
    def transaction_status(self) -> TransactionStatus:
        if self._transaction is None:
            return TransactionStatus.IDLE
        return TransactionStatus.INERROR if self._transaction.failed else TransactionStatus.INTRANS

    @contextlib.contextmanager
    def pipeline(self) -> Iterator[Connection]:
        self._pipelined, self._error = True, None
        try:
            yield self
        finally:
            self._pipelined = False
        if self._error is not None:
            raise self._error

    def sync(self) -> None:
        """The server has answered: psycopg waits. What came after a failure was not run."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._drop()
            with contextlib.suppress(ValueError):
                self._process.on_end.remove(self._drop)

    def execute(self, query: bytes | str | sql.Composable, params: Sequence[Any] = (), **_options: Any) -> Answer:
        text = query.as_string(None) if isinstance(query, sql.Composable) else query
        text = text.decode() if isinstance(text, bytes) else text
        if text.startswith(_TRANSACTION):
            point, effect = text.split(" ", 1)[0].lower(), lambda: self._control(text)
            point = {"release": "savepoint", "set": "savepoint", "rollback": "savepoint"}.get(point, point)
        else:
            point, run = statements.known(text)
            effect = lambda: self._run(run, params)  # noqa: E731  # the call decides whether it happens
        return self._attempt(point, effect)

    def _attempt(self, point: str, effect: Callable[[], Answer]) -> Answer:
        self._process.check()
        if self.closed:
            raise psycopg.OperationalError("the connection is closed")
        if self._pipelined and self._error is not None:
            return Answer()
        special = self._silent_rollback if point == "commit" else None
        try:
            return self._world.call(
                point, lambda: self._still(effect), self._errors(point), special=special, process=self._process
            )
        except _LOST as error:
            self.close()
            raise type(error)(str(error)) from None
        except psycopg.Error as error:
            if self._transaction is not None:
                self._transaction.failed = True
            if not self._pipelined:
                raise
            self._error = error
            return Answer()

    def _still(self, effect: Callable[[], Answer]) -> Answer:
        if self._transaction is not None and self._transaction.ended:
            raise errors.IdleInTransactionSessionTimeout("terminating connection")
        return effect()

    def _errors(self, point: str) -> Callable[[int], BaseException]:
        # An error in the place of COMMIT's answer is a lost connection: any other would say that it failed.
        kinds: Any = _LOST[:2] if point == "commit" else (*_LOST[:2], *_FAILED)

        def error(flavour: int) -> BaseException:
            made: BaseException = kinds[flavour % len(kinds)]("planted")
            return made

        return error

    def _run(self, run: statements.Run, params: Sequence[Any]) -> Answer:
        transaction = self._transaction
        if transaction is not None and transaction.failed:
            raise errors.InFailedSqlTransaction("current transaction is aborted")
        own = transaction or Transaction()
        rows = run(self._database, own, params)
        if run is statements.claim:
            self._database.claimants(params[2], self._process.name)
        if transaction is None:
            self._database.commit(own)
            self._database.release(own)
        return Answer("", rows)

    def _control(self, text: str) -> Answer:
        command = text.split(" ", 1)[0]
        if command == "BEGIN":
            self._transaction = Transaction()
        elif command == "COMMIT":
            return self._end(commit=self._transaction is not None and not self._transaction.failed)
        elif text == "ROLLBACK":
            return self._end(commit=False)
        elif self._transaction is None:
            raise errors.NoActiveSqlTransaction(text)
        elif command == "ROLLBACK":
            self._transaction.staged = self._transaction.savepoints[-1].copy()
            self._transaction.failed = False
        elif self._transaction.failed:
            raise errors.InFailedSqlTransaction("current transaction is aborted")
        elif command == "SAVEPOINT":
            self._transaction.savepoints.append(self._transaction.staged.copy())
        elif command == "RELEASE":
            self._transaction.savepoints.pop()
        return Answer(command)

    def _end(self, *, commit: bool) -> Answer:
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            self._database.release(transaction)
            if commit:
                self._database.watch_owner(transaction, self._process.name)
                self._database.commit(transaction)
        return Answer("COMMIT" if commit else "ROLLBACK")

    def _silent_rollback(self, _flavour: int) -> Answer:
        """COMMIT of a transaction that had failed unseen is answered with ROLLBACK, and no error (pgjdbc#1697)."""
        return self._end(commit=False)

    def _drop(self) -> None:
        self._end(commit=False)


class TriesPort:
    """Parts of a batch that are tried in a transaction; what a pipeline leaves to the server is done here."""

    def __init__(self, connection: Connection, _written: object, blame: Callable[[BaseException], None]) -> None:
        self._connection = connection
        self._blame = blame
        self.count = self.statements = 0

    def try_each(self, parts: Iterable[Callable[[], Sequence[tuple[bytes, Any]]]]) -> list[Refusal | None]:
        return [self._try(part()) for part in parts]

    def end(self) -> None:
        self._connection.execute("ROLLBACK TO attempt")

    def _try(self, commands: Sequence[tuple[bytes, Any]]) -> Refusal | None:
        self._connection.execute("ROLLBACK TO attempt")
        try:
            for statement, params in commands:
                self._connection.execute(statement, params)
            self._connection.execute("RELEASE attempt")
            self._connection.execute("SAVEPOINT attempt")
        except psycopg.Error as error:
            self._blame(error)
            return Refusal(error, 0)
        return None

"""Trying parts of a batch one after the other, in one pipeline: nobody waits between two of them.

What passes stays, and what fails leaves no trace, without anybody looking at an answer in between. A part is sent as

    ROLLBACK TO attempt · count · its statements · RELEASE attempt · SAVEPOINT attempt · Sync

When a statement fails, the server skips what follows up to the Sync; the savepoint is still the old one, and the next
part goes back to it. When all of them pass, the savepoint is a new one, and going back to it undoes nothing.

The server counts the rows that a transaction inserts and updates, and does not take back what it counted in a part that
failed. So the next count tells how far that part came.

Libpq is used directly: psycopg takes four times as long to send a statement, and forgets all that it has prepared when
it sees a ROLLBACK, also one to a savepoint.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import psycopg
from psycopg.errors import error_from_result
from psycopg.generators import fetch, send
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult

from .isolation import Refusal
from .packed import Packed
from .rows import Command

_GO_BACK, _KEEP, _MARK = b"ROLLBACK TO attempt", b"RELEASE attempt", b"SAVEPOINT attempt"

_BY_AN_INDEX = ("23505", "23P01", "54000")  # refuses a row that is in the table, and counted, already

Part = Callable[[], Sequence[Command]]  # packs the part's statements; raises when a value has no encoding


class Tries:
    """Tries parts in the transaction that the connection is in, from a savepoint `attempt` on.

    `blame` gets each refusal as soon as it is known, and raises what is not the data's fault. A connection on which
    anything was raised here is of no more use.
    """

    def __init__(
        self, connection: psycopg.Connection[Any], written: Command, blame: Callable[[BaseException], None]
    ) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._written = written
        self._blame = blame
        self._prepared: dict[bytes, bytes] = {}  # names by statement; psycopg's own are left alone
        self._on_way: deque[int] = deque()  # the parts that are not answered yet
        self._answered = 0  # the last one that is
        self._rows = 0  # that were written before it, in vain or not
        self._refusals: list[Refusal | None] = []
        self.count = 0  # parts that were tried
        self.statements = 0  # statements that took, the savepoint's among them

    def try_each(self, parts: Iterable[Part]) -> list[Refusal | None]:
        """Try parts in order. Returns for each why it is refused, or None."""
        self._refusals = [None]
        self._answered = 0
        self._pgconn.enter_pipeline_mode()
        for index, part in enumerate(parts, 1):
            self._refusals.append(None)
            try:
                commands = part()
            except Exception as error:  # noqa: BLE001  # judged like one of the server's
                self._refuse(index, error)
            else:
                self._send_part(index, commands)
        self._send_part(0, ())
        self._take_all()
        return self._refusals[1:]

    def end(self) -> None:
        """The connection is as it was before, still in its transaction, with all that passed."""
        self._pgconn.enter_pipeline_mode()
        self._pgconn.send_query_params(_GO_BACK, None)  # a part that failed last has left the transaction aborted
        for name in self._prepared.values():
            self._pgconn.send_query_params(b"DEALLOCATE " + name, None)
        self._sync(-1)
        self._take_all()

    def _send_part(self, index: int, commands: Sequence[Command]) -> None:
        self.count += index > 0
        # Always before what may fail, or it could be skipped and its name be known to us only.
        self._prepare(_GO_BACK, self._written[0], _KEEP, _MARK)
        self._execute(_GO_BACK)
        self._execute(*self._written)
        self._prepare(*(statement for statement, _ in commands))
        for statement, params in commands:
            self._execute(statement, params)
        self._execute(_KEEP)
        self._execute(_MARK)
        self._sync(index)

    def _prepare(self, *statements: bytes) -> None:
        for statement in statements:
            if statement not in self._prepared:
                self._prepared[statement] = b"try_%d" % len(self._prepared)
                self._pgconn.send_prepare(self._prepared[statement], _numbered(statement))

    def _execute(self, statement: bytes, params: Sequence[Packed] = ()) -> None:
        self.statements += 1
        data = [param.data for param in params]
        self._pgconn.send_query_prepared(self._prepared[statement], data or None, [Format.BINARY] * len(data) or None)

    def _sync(self, index: int) -> None:
        """Send what is queued, and take the answers that are there: neither side may fill up and wait for the other."""
        self._pgconn.pipeline_sync()
        self._on_way.append(index)
        self._connection.wait(send(self._pgconn))
        self._pgconn.consume_input()
        while self._on_way and not self._pgconn.is_busy():
            self._take(self._pgconn.get_result())

    def _take_all(self) -> None:
        while self._on_way:
            self._take(self._connection.wait(fetch(self._pgconn)))
        self._pgconn.exit_pipeline_mode()

    def _take(self, result: PGresult | None) -> None:
        if result is None:  # between the results of two statements
            return
        if result.status == ExecStatus.PIPELINE_SYNC:
            self._answered = self._on_way.popleft()
        elif result.status == ExecStatus.FATAL_ERROR:
            self._refuse(self._on_way[0], error_from_result(result, encoding=self._connection.info.encoding))
        elif result.status == ExecStatus.TUPLES_OK and (rows := result.get_value(0, 0)):
            self._note(int(rows))

    def _note(self, rows: int) -> None:
        refusal = self._refusals[self._answered]
        if refusal is not None:
            counted = getattr(refusal.error, "sqlstate", None) in _BY_AN_INDEX
            self._refusals[self._answered] = Refusal(refusal.error, rows - self._rows - counted)
        self._rows = rows

    def _refuse(self, index: int, error: BaseException) -> None:
        self._blame(error)
        self._refusals[index] = Refusal(error, 0)


def _numbered(statement: bytes) -> bytes:
    """A statement with the server's placeholders in the place of psycopg's."""
    numbers = itertools.count(1)
    return re.sub(rb"%(.)", lambda found: b"%" if found[1] == b"%" else b"$%d" % next(numbers), statement)

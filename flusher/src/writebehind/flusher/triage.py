"""Triage: what an error on the way to the database means. Pure; by SQLSTATE and exception type, never by text.

FENCED     another flusher owns a partition of the batch now, or the batch is not the next one: drop it, ask again
TRANSIENT  the environment: back off and try the same batch again, for ever, on a new connection; never a dead letter
SYSTEMIC   the table, a privilege or the server is not as it must be: the entity stops, loudly, until that is mended
POISON     the data: the same batch would fail for ever
BUG        nothing we know: the process ends, because going on could hide a loss

When in doubt it is not the data: what is retried too long is seen and mended, a letter too many is work for a person.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import psycopg

from writebehind.shared.statement import ROW_MISSING

FENCED_SQLSTATE = "WB001"
REPEATS_MAX = 5  # failures in a row with one code that still count as its first verdict


class Verdict(enum.StrEnum):
    """What to do with a batch whose transaction failed."""

    FENCED = "fenced"
    TRANSIENT = "transient"
    SYSTEMIC = "systemic"
    POISON = "poison"
    BUG = "bug"


class NotCommitted(Exception):
    """The server answered COMMIT with another tag: the transaction had failed before, and nothing was written."""


@dataclass(frozen=True, slots=True)
class Until:
    """A verdict that holds for REPEATS_MAX failures in a row, and the one after that."""

    first: Verdict
    then: Verdict


_ON_KEY = "23505 on the key"
_PASSES, _MEND, _DATA, _OURS = Verdict.TRANSIENT, Verdict.SYSTEMIC, Verdict.POISON, Verdict.BUG
# Passes as a rule. A batch that never gets through must not be tried for ever without notice, nor be a dead letter.
_NOTICE = Until(_PASSES, _MEND)

#: By SQLSTATE, else by its class (the first two characters), else UNHEARD. Every class of Postgres has a row.
TABLE: Mapping[str, Verdict | Until] = {
    FENCED_SQLSTATE: Verdict.FENCED,  # raised by advance()
    ROW_MISSING: _DATA,  # raised by row_missing(): on_missing='dead_letter'
    "02": _NOTICE,  # no data: a warning
    "03": _NOTICE,  # SQL statement not yet complete
    "08": _PASSES,  # connection lost, refused or never made
    "08P01": _NOTICE,  # protocol violation: what poolers say for any trouble of theirs; or a parameter cut short
    "09": _MEND,  # triggered action
    "0A": _NOTICE,  # cached plan must not change result type: a new connection plans anew; else MERGE cannot do it
    "0B": _OURS,  # BEGIN where there can be none
    "0F": _MEND,  # locator
    "0L": _MEND,  # grantor
    "0P": _MEND,  # no such role
    "0Z": _MEND,  # GET STACKED DIAGNOSTICS outside a handler, in somebody's trigger
    "10": _DATA,  # XQuery
    "20": _DATA,  # CASE without a branch for the value, in somebody's trigger
    "21": _OURS,  # a row twice in one statement: the fold is wrong
    "22": _DATA,  # data: out of range, too long, not of the type, not of the encoding
    "2200H": _MEND,  # a sequence behind a default is used up: whatever the row
    "23": _DATA,  # constraint, among them 23505 on an index other than the key's, and a row no partition takes
    _ON_KEY: Until(_PASSES, _DATA),  # someone inserted the key at that moment: the next try updates. See `triage`
    "24": _MEND,  # cursor state, in somebody's trigger
    "25": _NOTICE,  # transaction state: a pooler that mixes sessions up
    "25006": _PASSES,  # read-only: a failover left us on the standby, and a new connection finds the primary
    "25P03": _PASSES,  # idle_in_transaction_session_timeout: we were suspended
    "25P04": _NOTICE,  # transaction_timeout: the server is slow, or the batch too large for it
    "26": _NOTICE,  # a prepared statement is gone: a pooler gave us another server connection
    "27": _MEND,  # a trigger changed the row that its own command is changing
    "28": _MEND,  # authorisation
    "2B": _MEND,  # dependent privileges
    "2D": _MEND,  # COMMIT in somebody's trigger
    "2F": _MEND,  # SQL routine
    "34": _MEND,  # cursor name, in somebody's trigger
    "38": _MEND,  # external routine: it may not do what it does
    "38000": _DATA,  # an exception of a trigger in Python or Perl: it refuses the row
    "39": _MEND,  # a trigger breaks the protocol of triggers
    "3B": _OURS,  # no such savepoint
    "3D": _MEND,  # no such database
    "3F": _MEND,  # no such schema
    "40": _PASSES,  # serialisation failure, deadlock, outcome of a statement unknown
    "42": _MEND,  # no such table or column, wrong type (42804), no privilege, refused by a row-level policy (42501)
    "42P05": _NOTICE,  # a prepared statement exists: a pooler gave us another server connection
    "44": _DATA,  # WITH CHECK OPTION of a view
    "53": _PASSES,  # disk full, out of memory, too many connections
    "54": _DATA,  # a value beyond a limit of the server: row or index row too large (54000), nested too deep (54001)
    "54011": _MEND,  # too many columns: whatever the row
    "54023": _MEND,  # too many arguments: whatever the row
    "55": _MEND,  # not in the state it needs, such as a published table without a replica identity
    "55006": _PASSES,  # object in use
    "55P03": _PASSES,  # lock not available: someone else holds it
    "55P04": _PASSES,  # a new enum value whose transaction is not committed yet
    "57": _PASSES,  # shutdown, crash, cannot connect now, idle session
    "57014": _NOTICE,  # cancelled, mostly by statement_timeout: the server is slow, or the batch too large for it
    "57P04": _MEND,  # the database was dropped
    "58": _PASSES,  # I/O error
    "58P01": _NOTICE,  # a file of the server is gone: a table's, or an extension's library
    "72": _PASSES,  # snapshot too old
    "F0": _MEND,  # the server's configuration file
    "HV": _NOTICE,  # foreign data wrapper, behind a trigger or a foreign partition
    "P0": _DATA,  # raised by somebody's trigger (P0001), or a failed assertion of it: it refuses the row
    "XX": _MEND,  # a corrupted table or index
    "XX000": _NOTICE,  # internal error: a race with DDL passes ("cache lookup failed"), a fault of the server does not
}

UNHEARD = _NOTICE  # a server that is not quite Postgres, or a trigger's own code, which refuses rows only in class P0


class Streak:
    """How often one batch failed in a row with one code. Make a new one for each batch."""

    def __init__(self) -> None:
        self._state: str | None = None
        self.length = 0

    def add(self, error: BaseException) -> int:
        """The failures in a row with this error's code, this one included."""
        state = getattr(error, "sqlstate", None) or type(error).__name__
        self.length = self.length + 1 if state == self._state else 1
        self._state = state
        return self.length


def triage(
    error: BaseException, key_indexes: Collection[tuple[str, str]] | None = None, *, repeats: int = 1
) -> Verdict:
    """The verdict on an error raised while a batch was written.

    key_indexes: schema and name of the indexes that only a row with the same key can violate
        (`TableInfo.indexes_on_key`); None: not known, every unique index counts as one.
    repeats: failures in a row of this batch with this code (`Streak`).

    A key that is refused again and again is no race: the MERGE does not find the row that the insert runs into. A
    BEFORE INSERT trigger changes the key, a row-level policy hides the row, or the column cuts off the key's trailing
    spaces. Such a batch is bisected in the end. That tries each bad key alone once more, when a race is won.
    """
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    if state is None:
        return _without_state(error)
    code = _ON_KEY if state == "23505" and _on_key(error, key_indexes) else state
    row = TABLE.get(code) or TABLE.get(code[:2], UNHEARD)
    if isinstance(row, Until):
        return row.first if repeats <= REPEATS_MAX else row.then
    return row


def _on_key(error: BaseException, key_indexes: Collection[tuple[str, str]] | None) -> bool:
    if key_indexes is None or not isinstance(error, psycopg.Error):
        return True
    # With its schema: a trigger's history table has an index of the same name, as a rule, in another schema.
    return (error.diag.schema_name, error.diag.constraint_name) in key_indexes


def _without_state(error: BaseException) -> Verdict:
    """Errors that no server reported."""
    match error:
        case NotCommitted() | OSError():
            return Verdict.TRANSIENT
        case psycopg.OperationalError() | psycopg.InterfaceError():
            return Verdict.TRANSIENT  # no connection, for any reason: libpq gives no code when connecting fails
        case psycopg.DataError() | UnicodeEncodeError() | OverflowError() | struct.error():
            return Verdict.POISON  # no encoding: NUL or a lone surrogate in text, a sum beyond 64 bits
        case psycopg.NotSupportedError():
            return Verdict.SYSTEMIC  # the database's encoding, or a libpq that is too old
        case _:
            return Verdict.BUG

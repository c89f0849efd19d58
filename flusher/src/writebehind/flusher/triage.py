"""Triage: what an error on the way to the database means. Pure; by SQLSTATE and exception type, never by text.

FENCED     another flusher owns a partition of the batch now, or the batch is not the next one: drop it, ask again
TRANSIENT  the environment: back off and try the same batch again, for ever; never a dead letter
SYSTEMIC   the table or a privilege is not as it must be: the entity stops until that is mended
POISON     the data: the same batch would fail for ever
BUG        nothing we know: the process ends, because going on could hide a loss
"""

from __future__ import annotations

import enum
import struct

import psycopg

FENCED_SQLSTATE = "WB001"


class Verdict(enum.StrEnum):
    """What to do with a batch whose transaction failed."""

    FENCED = "fenced"
    TRANSIENT = "transient"
    SYSTEMIC = "systemic"
    POISON = "poison"
    BUG = "bug"


class NotCommitted(Exception):
    """The server answered COMMIT with another tag: the transaction had failed before, and nothing was written."""


_BY_STATE = {
    FENCED_SQLSTATE: Verdict.FENCED,  # raised by advance()
    "0A000": Verdict.TRANSIENT,  # cached plan must not change result type: a new connection plans anew
    "25006": Verdict.TRANSIENT,  # read-only: a failover left us on the standby
    "55P03": Verdict.TRANSIENT,  # lock not available: someone else holds it
    "55006": Verdict.TRANSIENT,  # object in use
    "21000": Verdict.BUG,  # a row twice in one statement: the fold is wrong
    "22P02": Verdict.POISON,  # invalid text representation, such as a label the enum does not have
    "54000": Verdict.POISON,  # a value too large for a limit of the server, such as an index row
    "23505": Verdict.TRANSIENT,  # on the key: someone inserted the same key at that moment; the next try updates it
}

_BY_CLASS = {
    "08": Verdict.TRANSIENT,  # connection
    "40": Verdict.TRANSIENT,  # serialisation failure, deadlock
    "53": Verdict.TRANSIENT,  # disk full, out of memory, too many connections
    "57": Verdict.TRANSIENT,  # shutdown, query cancelled
    "58": Verdict.TRANSIENT,  # I/O error
    "25": Verdict.TRANSIENT,  # transaction state, such as one ended by idle_in_transaction_session_timeout
    "28": Verdict.SYSTEMIC,  # authorisation
    "3D": Verdict.SYSTEMIC,  # no such database
    "3F": Verdict.SYSTEMIC,  # no such schema
    "42": Verdict.SYSTEMIC,  # no such table or column, no privilege
    "22": Verdict.POISON,  # data
    "23": Verdict.POISON,  # constraint
    "54": Verdict.POISON,  # program limit
}


def triage(error: BaseException) -> Verdict:
    """The verdict on an error raised while a batch was written."""
    if isinstance(error, NotCommitted):
        return Verdict.TRANSIENT
    if isinstance(error, psycopg.Error):
        state = error.sqlstate
        if state is not None:
            return _BY_STATE.get(state) or _BY_CLASS.get(state[:2], Verdict.TRANSIENT)
        if isinstance(error, psycopg.DataError | psycopg.NotSupportedError):
            return Verdict.POISON  # refused by the client while it encoded a parameter
        return (
            Verdict.TRANSIENT if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) else Verdict.BUG
        )
    if isinstance(error, UnicodeEncodeError | OverflowError | struct.error):
        return Verdict.POISON
    if isinstance(error, OSError):
        return Verdict.TRANSIENT
    return Verdict.BUG

"""Triage: what each error means for the batch. Codes, never texts."""

from __future__ import annotations

import struct

import psycopg
import pytest
from psycopg import errors

from writebehind.flusher.triage import FENCED_SQLSTATE, NotCommitted, Verdict, triage


class Fenced(psycopg.DatabaseError):
    sqlstate = FENCED_SQLSTATE


class Unheard(psycopg.DatabaseError):
    sqlstate = "ZZ123"


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (Fenced(), Verdict.FENCED),
        # The environment: never the data's fault, never given up.
        (errors.ConnectionFailure(), Verdict.TRANSIENT),
        (errors.SerializationFailure(), Verdict.TRANSIENT),
        (errors.DeadlockDetected(), Verdict.TRANSIENT),
        (errors.DiskFull(), Verdict.TRANSIENT),
        (errors.OutOfMemory(), Verdict.TRANSIENT),
        (errors.TooManyConnections(), Verdict.TRANSIENT),
        (errors.AdminShutdown(), Verdict.TRANSIENT),
        (errors.CannotConnectNow(), Verdict.TRANSIENT),
        (errors.QueryCanceled(), Verdict.TRANSIENT),
        (errors.LockNotAvailable(), Verdict.TRANSIENT),
        (errors.IoError(), Verdict.TRANSIENT),
        (errors.ReadOnlySqlTransaction(), Verdict.TRANSIENT),
        (errors.IdleInTransactionSessionTimeout(), Verdict.TRANSIENT),
        (errors.FeatureNotSupported(), Verdict.TRANSIENT),
        (errors.UniqueViolation(), Verdict.TRANSIENT),
        (psycopg.OperationalError("server closed the connection"), Verdict.TRANSIENT),
        (psycopg.InterfaceError("the connection is closed"), Verdict.TRANSIENT),
        (ConnectionResetError(), Verdict.TRANSIENT),
        (TimeoutError(), Verdict.TRANSIENT),
        (NotCommitted(), Verdict.TRANSIENT),
        # Somebody has to mend something first.
        (errors.UndefinedTable(), Verdict.SYSTEMIC),
        (errors.UndefinedColumn(), Verdict.SYSTEMIC),
        (errors.DatatypeMismatch(), Verdict.SYSTEMIC),
        (errors.InsufficientPrivilege(), Verdict.SYSTEMIC),
        (errors.InvalidPassword(), Verdict.SYSTEMIC),
        (errors.InvalidCatalogName(), Verdict.SYSTEMIC),
        (errors.InvalidSchemaName(), Verdict.SYSTEMIC),
        # The data.
        (errors.NotNullViolation(), Verdict.POISON),
        (errors.CheckViolation(), Verdict.POISON),
        (errors.ForeignKeyViolation(), Verdict.POISON),
        (errors.NumericValueOutOfRange(), Verdict.POISON),
        (errors.StringDataRightTruncation(), Verdict.POISON),
        (errors.InvalidTextRepresentation(), Verdict.POISON),
        (errors.ProgramLimitExceeded(), Verdict.POISON),
        (errors.StatementTooComplex(), Verdict.POISON),
        (psycopg.DataError("refused while a parameter was encoded"), Verdict.POISON),
        (psycopg.NotSupportedError("refused while a parameter was encoded"), Verdict.POISON),
        (struct.error(), Verdict.POISON),
        (OverflowError(), Verdict.POISON),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, ""), Verdict.POISON),
        # Ours.
        (errors.CardinalityViolation(), Verdict.BUG),
        (psycopg.ProgrammingError("ours"), Verdict.BUG),
        (psycopg.DatabaseError("ours"), Verdict.BUG),
        (KeyError("ours"), Verdict.BUG),
        (ZeroDivisionError(), Verdict.BUG),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_gets_the_verdict_of_its_code(error: Exception, verdict: Verdict) -> None:
    assert triage(error) is verdict


def test_a_code_nobody_knows_is_not_held_against_the_data() -> None:
    assert triage(Unheard()) is Verdict.TRANSIENT


def test_the_text_of_an_error_does_not_matter() -> None:
    assert triage(errors.CheckViolation("disk full, connection lost, deadlock detected")) is Verdict.POISON

"""Triage: what each error means for the batch. Codes, never texts."""

from __future__ import annotations

import struct
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.pq import DiagnosticField

from writebehind.flusher.triage import FENCED_SQLSTATE, REPEATS_MAX, TABLE, NotCommitted, Streak, Verdict, triage


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
        (errors.SequenceGeneratorLimitExceeded(), Verdict.SYSTEMIC),
        (errors.TooManyColumns(), Verdict.SYSTEMIC),
        (errors.ObjectNotInPrerequisiteState(), Verdict.SYSTEMIC),
        (errors.DataCorrupted(), Verdict.SYSTEMIC),
        (psycopg.NotSupportedError("the database's encoding"), Verdict.SYSTEMIC),
        # The data.
        (errors.NotNullViolation(), Verdict.POISON),
        (errors.CheckViolation(), Verdict.POISON),
        (errors.ForeignKeyViolation(), Verdict.POISON),
        (errors.NumericValueOutOfRange(), Verdict.POISON),
        (errors.StringDataRightTruncation(), Verdict.POISON),
        (errors.InvalidTextRepresentation(), Verdict.POISON),
        (errors.ProgramLimitExceeded(), Verdict.POISON),
        (errors.ExclusionViolation(), Verdict.POISON),
        (errors.RaiseException(), Verdict.POISON),
        (errors.StatementTooComplex(), Verdict.POISON),
        (psycopg.DataError("refused while a parameter was encoded"), Verdict.POISON),
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
    assert triage(Unheard(), repeats=REPEATS_MAX + 1) is Verdict.SYSTEMIC


def test_the_text_of_an_error_does_not_matter() -> None:
    assert triage(errors.CheckViolation("disk full, connection lost, deadlock detected")) is Verdict.POISON


def test_every_class_of_postgres_has_a_row() -> None:
    states = {state for one in vars(errors).values() if isinstance(state := getattr(one, "sqlstate", None), str)}
    assert len(states) > 200
    assert {state[:2] for state in states} <= TABLE.keys()


@pytest.mark.parametrize(
    ("error", "first", "then"),
    [
        (errors.DiskFull(), Verdict.TRANSIENT, Verdict.TRANSIENT),
        (errors.CheckViolation(), Verdict.POISON, Verdict.POISON),
        (errors.QueryCanceled(), Verdict.TRANSIENT, Verdict.SYSTEMIC),
        (errors.FeatureNotSupported(), Verdict.TRANSIENT, Verdict.SYSTEMIC),
        (errors.UniqueViolation(), Verdict.TRANSIENT, Verdict.POISON),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_failure_that_repeats_is_judged_anew_after_so_many(
    error: psycopg.Error, first: Verdict, then: Verdict
) -> None:
    assert triage(error, repeats=REPEATS_MAX) is first
    assert triage(error, repeats=REPEATS_MAX + 1) is then


def test_a_streak_counts_failures_with_one_code_and_starts_again_with_another() -> None:
    streak = Streak()
    full, lost = errors.DiskFull(), psycopg.OperationalError()
    assert [streak.add(error) for error in (full, full, lost, ConnectionResetError(), full)] == [1, 2, 1, 1, 1]


@pytest.mark.parametrize(
    ("schema", "index", "verdict"),
    [
        ("game", "players_pkey", Verdict.TRANSIENT),
        ("game", "players_name_key", Verdict.POISON),
        ("history", "players_pkey", Verdict.POISON),
        (None, None, Verdict.POISON),  # raised by a trigger
    ],
)
def test_a_unique_violation_is_a_race_only_on_an_index_of_the_key(
    schema: str | None, index: str | None, verdict: Verdict
) -> None:
    texts = {DiagnosticField.SCHEMA_NAME: schema, DiagnosticField.CONSTRAINT_NAME: index}
    info: Any = {int(name): text and text.encode() for name, text in texts.items()}
    error = errors.UniqueViolation(info=info)
    assert triage(error, frozenset({("game", "players_pkey")})) is verdict

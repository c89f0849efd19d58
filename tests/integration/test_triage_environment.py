"""Triage of what is nobody's row: outages, locks and limits, provoked on the server under the flusher's own writer.

Not provoked: 57P02 and 57P03, which only a server that crashes or starts gives; without a connection libpq has no code.
08006 is raised by a trigger: to a client that loses its connection, libpq reports no code either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import psycopg
import pytest

from tests.faults.proxy import Moment, Proxy, port_of
from tests.faults.wire import Postgres
from tests.integration.database_table import Table, table_of
from tests.integration.guarded import through
from tests.integration.triage_world import (
    DDL,
    TRIGGER,
    Plain,
    administer,
    failure,
    login,
    other_session,
    small_tablespace,
    verdicts,
    waiting_write,
    write,
)
from writebehind.embedded.isolation import Isolation
from writebehind.flusher.triage import Verdict

PASSES = (Verdict.TRANSIENT, Verdict.TRANSIENT)
NOTICED = (Verdict.TRANSIENT, Verdict.SYSTEMIC)  # when it does not pass
ENDINGS = {
    "pg_cancel_backend": ("57014", *NOTICED),
    "pg_terminate_backend": (None, *PASSES),  # in a pipeline the connection's end hides 57P01
}


@pytest.fixture
def plain(writebehind_isolated: Isolation) -> Iterator[Table]:
    with table_of(writebehind_isolated, Plain, DDL) as made:
        yield made


CONDITIONS = {
    "said by a pooler or a foreign server": ("08006", *PASSES, "RAISE connection_failure;"),
    "too many locks": ("53200", *PASSES, "PERFORM pg_advisory_xact_lock(n) FROM generate_series(1, 10000000) AS n;"),
    "in use": ("55006", *PASSES, "ALTER TABLE plain ADD more int;"),
    "input/output error": ("58030", *PASSES, "PERFORM pg_read_binary_file('/proc/self/mem', 0, 1);"),
}


@pytest.mark.parametrize("case", CONDITIONS)
def test_a_condition_of_the_server_is_transient(plain: Table, case: str) -> None:
    *expected, body = CONDITIONS[case]
    plain.execute(TRIGGER.format(body))

    assert verdicts(plain, failure(plain)) == tuple(expected)


def test_a_row_that_somebody_holds_too_long_is_transient(writebehind_isolated: Isolation) -> None:
    with table_of(writebehind_isolated, Plain, DDL, lock_timeout_s=0.1) as plain, other_session(plain.url) as other:
        other.execute("UPDATE plain SET hits = 1")

        assert verdicts(plain, failure(plain)) == ("55P03", *PASSES)


def test_a_batch_that_the_server_cancels_as_too_slow_is_transient_and_noticed(writebehind_isolated: Isolation) -> None:
    with (
        table_of(writebehind_isolated, Plain, DDL, statement_timeout_s=0.1) as plain,
        other_session(plain.url) as other,
    ):
        other.execute("UPDATE plain SET hits = 1")

        assert verdicts(plain, failure(plain)) == ("57014", *NOTICED)


@pytest.mark.parametrize("function", ENDINGS)
def test_a_batch_that_an_administrator_ends_is_transient(plain: Table, function: str) -> None:
    with other_session(plain.url) as other:
        other.execute("UPDATE plain SET hits = 1")
        with waiting_write(plain, other) as (pid, failing):
            plain.execute(f"SELECT {function}(%s)", pid)
            error = failing.result()

    assert verdicts(plain, error) == ENDINGS[function]


def test_a_session_that_an_administrator_ends_is_transient(plain: Table) -> None:
    with psycopg.connect(plain.url) as connection:
        plain.execute("SELECT pg_terminate_backend(%s, 10000)", connection.info.backend_pid)
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("SELECT 1")

    assert verdicts(plain, caught.value) == ("57P01", *PASSES)


def test_a_serialization_failure_is_transient(writebehind_isolated: Isolation) -> None:
    with login(writebehind_isolated) as (role, corner), table_of(corner, Plain, DDL) as plain:
        administer(writebehind_isolated, f"ALTER ROLE \"{role}\" SET default_transaction_isolation = 'repeatable read'")
        with other_session(plain.url) as other:
            other.execute("UPDATE plain SET hits = 1")
            with waiting_write(plain, other) as (_, failing):
                other.commit()
                error = failing.result()

        assert verdicts(plain, error) == ("40001", *PASSES)
        write(plain)


def test_a_deadlock_is_transient(writebehind_isolated: Isolation) -> None:
    # The one whose wait is checked loses: it must be the batch, some time after the other one waits for it.
    with login(writebehind_isolated) as (role, corner), table_of(corner, Plain, DDL) as plain:
        administer(writebehind_isolated, f"ALTER ROLE \"{role}\" SET deadlock_timeout = '2s'")
        write(plain)
        with other_session(writebehind_isolated.database_url) as other:
            other.execute("SET LOCAL deadlock_timeout = '1h'")
            other.execute("UPDATE plain SET hits = 1 WHERE id = 2")
            with waiting_write(plain, other) as (_, failing):
                other.execute("UPDATE plain SET hits = 1 WHERE id = 1")
                error = failing.result()

        assert verdicts(plain, error) == ("40P01", *PASSES)
        write(plain)


def test_a_read_only_server_is_transient_and_only_a_new_connection_finds_the_primary(
    writebehind_isolated: Isolation,
) -> None:
    with login(writebehind_isolated) as (role, corner), table_of(corner, Plain, DDL) as plain:
        administer(writebehind_isolated, f'ALTER ROLE "{role}" SET default_transaction_read_only = on')
        assert verdicts(plain, failure(plain)) == ("25006", *PASSES)

        administer(writebehind_isolated, f'ALTER ROLE "{role}" RESET default_transaction_read_only')
        write(plain)  # `Table` has closed the connection that failed


def test_a_full_disk_is_transient(writebehind_isolated: Isolation) -> None:
    with table_of(writebehind_isolated, Plain, DDL) as plain, small_tablespace(writebehind_isolated) as space:
        plain.execute(f'CREATE TABLE filler (text text) TABLESPACE "{space}"')
        plain.execute(TRIGGER.format("INSERT INTO filler SELECT repeat('x', 2000) FROM generate_series(1, 10000);"))
        try:
            assert verdicts(plain, failure(plain)) == ("53100", *PASSES)
        finally:
            plain.execute("DROP TABLE filler")


@pytest.mark.parametrize("restriction", ["CONNECTION LIMIT 0", "NOLOGIN"], ids=["53300", "28000"])
def test_a_connection_that_is_refused_has_no_code_and_is_transient(
    writebehind_isolated: Isolation, restriction: str
) -> None:
    with login(writebehind_isolated) as (role, corner), table_of(corner, Plain, DDL) as plain:
        administer(writebehind_isolated, f'ALTER ROLE "{role}" {restriction}')

        assert verdicts(plain, failure(plain)) == (None, *PASSES)


def test_a_connection_that_is_cut_has_no_code_and_is_transient(writebehind_isolated: Isolation) -> None:
    url = writebehind_isolated.database_url
    with Proxy(port_of(url), Postgres) as proxy:
        corner = dataclasses.replace(writebehind_isolated, database_url=through(url, proxy.port))
        with table_of(corner, Plain, DDL) as plain:
            trap = proxy.trap("COMMIT", Moment.BEFORE_REPLY, cut=True)

            error = failure(plain)

            assert trap.hit.is_set()
            assert verdicts(plain, error) == (None, *PASSES)


def test_a_plan_that_became_stale_is_transient_and_a_new_connection_plans_anew(plain: Table) -> None:
    for _ in range(10):  # psycopg prepares what it has seen a few times
        plain.writer.find(["1"])
    plain.execute("ALTER TABLE plain ALTER hits TYPE int")

    with pytest.raises(psycopg.Error) as caught:
        plain.writer.find(["1"])

    assert verdicts(plain, caught.value) == ("0A000", *NOTICED)
    plain.writer.disconnect()
    plain.writer.find(["1"])


def test_a_prepared_statement_that_is_gone_is_transient(plain: Table) -> None:
    with psycopg.connect(plain.url, autocommit=True) as connection:
        connection.execute("SELECT 1", prepare=True)
        connection.execute("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")  # psycopg does not see this one
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("SELECT 1", prepare=True)

    assert verdicts(plain, caught.value) == ("26000", *NOTICED)

"""Triage of what somebody has to mend: the table, a privilege or a trigger is not as it must be, whatever the row."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.database_table import Table, table_of
from tests.integration.triage_world import DDL, TRIGGER, Plain, failure, login, verdicts
from writebehind.embedded.isolation import Isolation
from writebehind.flusher.triage import FENCED_SQLSTATE, Verdict

ALTER = "ALTER TABLE plain "

#: SQLSTATE, and what breaks the table. `{bookkeeping}` is a schema.
BREAKAGES = {
    "table dropped": ("42P01", "DROP TABLE plain"),
    "schema of the bookkeeping dropped": ("3F000", 'DROP SCHEMA "{bookkeeping}" CASCADE'),
    "function of the bookkeeping dropped": (
        "42883",
        'DROP FUNCTION "{bookkeeping}".advance(text[], int[], bigint[], bigint[], bigint[], bigint[])',
    ),
    "column dropped": ("42703", ALTER + "DROP title"),
    "column of another type": ("42804", ALTER + "ALTER title TYPE bytea USING title::bytea"),
    "column generated": ("428C9", ALTER + "DROP title, ADD title text GENERATED ALWAYS AS ('a') STORED"),
    "published without identity": (
        "55000",
        ALTER + 'REPLICA IDENTITY NOTHING; CREATE PUBLICATION "{bookkeeping}" FOR TABLE plain',
    ),
    "sequence of a default used up": (
        "2200H",
        "CREATE SEQUENCE few MAXVALUE 2; SELECT nextval('few') FROM generate_series(1, 2); DELETE FROM plain; "
        + ALTER
        + "ADD number int DEFAULT nextval('few')",
    ),
    "commit in a trigger": ("2D000", TRIGGER.format("COMMIT;")),
    "trigger changes its own row": (
        "27000",
        TRIGGER.format("IF pg_trigger_depth() = 1 THEN UPDATE plain SET title = 'mine' WHERE id = NEW.id; END IF;"),
    ),
    "trigger without a result": ("2F005", TRIGGER.replace("RETURN NEW;", "").format("")),
}

#: The same for what passes as a rule, but not here.
OBSTACLES = {
    "MERGE impossible": (
        "0A000",
        ALTER + "RENAME TO other; CREATE MATERIALIZED VIEW plain AS SELECT * FROM other",
    ),
    "no such file": ("58P01", TRIGGER.format("PERFORM pg_read_file('/no/such/file');")),
    "internal error": ("XX000", TRIGGER.format("PERFORM array_in('{{1}}', 99999, -1);")),
    "code of somebody's own": ("MY001", TRIGGER.format("RAISE SQLSTATE 'MY001';")),
    "foreign data wrapper": ("HV000", TRIGGER.format("RAISE fdw_error;")),
}


@pytest.fixture
def plain(writebehind_isolated: Isolation) -> Iterator[Table]:
    with table_of(writebehind_isolated, Plain, DDL) as made:
        yield made


@pytest.mark.parametrize("case", BREAKAGES)
def test_what_breaks_every_row_is_systemic(plain: Table, writebehind_isolated: Isolation, case: str) -> None:
    state, breakage = BREAKAGES[case]
    plain.execute(breakage.replace("{bookkeeping}", writebehind_isolated.bookkeeping_schema))

    assert verdicts(plain, failure(plain)) == (state, Verdict.SYSTEMIC, Verdict.SYSTEMIC)


@pytest.mark.parametrize("case", OBSTACLES)
def test_what_may_pass_and_does_not_is_systemic_in_the_end(plain: Table, case: str) -> None:
    state, obstacle = OBSTACLES[case]
    plain.execute(obstacle)

    assert verdicts(plain, failure(plain)) == (state, Verdict.TRANSIENT, Verdict.SYSTEMIC)


@pytest.mark.parametrize(
    "restriction",
    [
        'REVOKE UPDATE ON plain FROM "{role}"',
        'REVOKE UPDATE (title) ON plain FROM "{role}"; REVOKE UPDATE ON plain FROM "{role}"',
        "ALTER TABLE plain ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        'REVOKE USAGE ON SCHEMA "{bookkeeping}" FROM "{role}"',
    ],
    ids=["table", "column", "row-level policy", "bookkeeping"],
)
def test_a_privilege_that_is_missing_is_systemic(writebehind_isolated: Isolation, restriction: str) -> None:
    with login(writebehind_isolated) as (role, corner), table_of(corner, Plain, DDL) as plain:
        plain.execute(restriction.format(role=role, bookkeeping=corner.bookkeeping_schema))

        assert verdicts(plain, failure(plain)) == ("42501", Verdict.SYSTEMIC, Verdict.SYSTEMIC)


def test_a_batch_under_an_old_epoch_is_fenced(plain: Table, writebehind_isolated: Isolation) -> None:
    plain.execute(f'UPDATE "{writebehind_isolated.bookkeeping_schema}".progress SET owner_epoch = 2')

    assert verdicts(plain, failure(plain)) == (FENCED_SQLSTATE, Verdict.FENCED, Verdict.FENCED)

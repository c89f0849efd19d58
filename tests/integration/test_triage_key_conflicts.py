"""23505: on the key it is a race with another insert, which the next try wins; on anything else it is the data."""

from __future__ import annotations

from typing import Annotated

import psycopg
import pytest

from tests.integration.database_table import Table, table_of
from tests.integration.triage_world import (
    DDL,
    TRIGGER,
    Plain,
    failure,
    login,
    other_session,
    verdicts,
    waiting_write,
    write,
)
from writebehind.embedded.isolation import Isolation
from writebehind.flusher.triage import REPEATS_MAX, Streak, Verdict, triage
from writebehind.shared.entity import Entity, Key, Sum, WriteBehind

RACE = ("23505", Verdict.TRANSIENT, Verdict.POISON)
REFUSAL = ("23505", Verdict.POISON, Verdict.POISON)
PARTITIONED = """
CREATE TABLE plain (id bigint PRIMARY KEY, title text, hits bigint NOT NULL DEFAULT 0, versions bigint[])
    PARTITION BY RANGE (id);
CREATE TABLE lower PARTITION OF plain FOR VALUES FROM (0) TO (9) PARTITION BY RANGE (id);
CREATE TABLE lowest PARTITION OF lower FOR VALUES FROM (0) TO (5)
"""
CASES = {
    "the primary key": DDL,
    "an index that holds the key": DDL.replace(" PRIMARY KEY", "")
    + "; ALTER TABLE plain ADD UNIQUE (title, id), ADD UNIQUE (id)",
    "a constraint with a name of its own": DDL.replace(" PRIMARY KEY", ' CONSTRAINT "Ein""e" UNIQUE'),
    "a partition's": PARTITIONED,
}


@pytest.mark.parametrize("ddl", CASES.values(), ids=CASES.keys())
def test_the_key_inserted_by_somebody_else_at_that_moment_is_a_race_that_the_next_try_wins(
    writebehind_isolated: Isolation, ddl: str
) -> None:
    with table_of(writebehind_isolated, Plain, ddl) as plain, other_session(plain.url) as other:
        other.execute("INSERT INTO plain (id, title) VALUES (2, 'b')")
        with waiting_write(plain, other) as (_, failing):
            other.commit()
            error = failing.result()

        assert verdicts(plain, error) == RACE
        write(plain)
        assert plain.read(2)[(2,)]["hits"] == 1


def test_another_row_with_the_value_of_a_unique_column_is_poison(writebehind_isolated: Isolation) -> None:
    ddl = DDL + "; ALTER TABLE plain ADD UNIQUE (title), ADD UNIQUE (id, title); INSERT INTO plain VALUES (9, 'b')"
    with table_of(writebehind_isolated, Plain, ddl) as plain:
        assert verdicts(plain, failure(plain)) == REFUSAL


def test_the_same_index_of_a_history_table_is_not_the_key(writebehind_isolated: Isolation) -> None:
    schema = writebehind_isolated.bookkeeping_schema  # any other will do
    with table_of(writebehind_isolated, Plain, DDL) as plain:
        plain.execute(
            f'CREATE TABLE "{schema}".plain (id bigint PRIMARY KEY); INSERT INTO "{schema}".plain VALUES (1);'
            + TRIGGER.format(f'INSERT INTO "{schema}".plain VALUES (NEW.id);')
        )

        error = failure(plain)

        assert error.diag.constraint_name == "plain_pkey"
        assert verdicts(plain, error) == REFUSAL


def test_a_key_that_its_own_trigger_changes_is_poison_in_the_end(writebehind_isolated: Isolation) -> None:
    with table_of(writebehind_isolated, Plain, DDL) as plain:
        plain.execute(TRIGGER.format("NEW.id := 1;"))

        assert verdicts(plain, failure(plain)) == RACE
        assert verdict_in_the_end(plain) is Verdict.POISON


def test_a_row_that_a_policy_hides_is_poison_in_the_end(writebehind_isolated: Isolation) -> None:
    with login(writebehind_isolated) as (_, corner), table_of(corner, Plain, DDL) as plain:
        plain.execute(
            "ALTER TABLE plain ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
            "CREATE POLICY hidden ON plain USING (title <> 'before') WITH CHECK (true)"
        )

        assert verdicts(plain, failure(plain)) == RACE


class Short(Entity, table="shorts", strategy=WriteBehind()):
    code: Annotated[str, Key]
    hits: Annotated[int, Sum] = 0


def test_a_key_whose_trailing_spaces_the_column_cuts_off_is_poison_in_the_end(writebehind_isolated: Isolation) -> None:
    ddl = "CREATE TABLE shorts (code varchar(2) PRIMARY KEY, hits bigint NOT NULL DEFAULT 0)"
    with table_of(writebehind_isolated, Short, ddl) as shorts:
        shorts.patch(("ab ", {"hits": 1}))  # inserted as "ab", which the next one does not find

        with pytest.raises(psycopg.errors.UniqueViolation) as caught:
            shorts.patch(("ab ", {"hits": 1}))

        assert verdicts(shorts, caught.value) == RACE


def verdict_in_the_end(made: Table) -> Verdict:
    """As a lane counts the failures of one batch."""
    streak, indexes = Streak(), made.info.indexes_on_key(made.declaration)
    for _ in range(REPEATS_MAX):
        error = failure(made)
        assert triage(error, indexes, repeats=streak.add(error)) is Verdict.TRANSIENT
    error = failure(made)
    return triage(error, indexes, repeats=streak.add(error))

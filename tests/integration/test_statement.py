"""The statement on the real database: histories cut into batches, in any order, come to the row that the model says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.database_table import Table, table_of
from tests.properties.histories import (
    DDL,
    DEFAULTS,
    INITIAL,
    MORTAL,
    TALLY,
    Mortal,
    State,
    Tally,
    Write,
    batched,
    by_key,
    outcome,
)
from writebehind.embedded.isolation import Isolation
from writebehind.shared.declaration import Declaration
from writebehind.shared.entity import Entity, Key, WriteBehind

KEYS_PER_HISTORY = 100


@pytest.fixture
def tally(writebehind_isolated: Isolation) -> Iterator[Table]:
    with table_of(writebehind_isolated, Tally, DDL.format("tallies")) as made:
        yield made


@pytest.fixture
def mortal(writebehind_isolated: Isolation) -> Iterator[Table]:
    with table_of(writebehind_isolated, Mortal, DDL.format("mortals")) as made:
        yield made


def on_keys_from(first: int, writes: Sequence[Write]) -> list[Write]:
    """The same writes on keys that no other history uses."""
    return [Write(first + write.key, write.version, write.generation, write.patch) for write in writes]


def insert(made: Table, keys: Sequence[int]) -> None:
    """Rows as somebody else inserts them: without versions."""
    names = ", ".join(INITIAL)
    places = ", ".join(["%s"] * len(INITIAL))
    made.execute(
        f"INSERT INTO {made.declaration.table} (id, {names}) SELECT unnest(%s::bigint[]), {places}",
        list(keys),
        *INITIAL.values(),
    )


def check(made: Table, histories: Sequence[Sequence[Write]], initial: set[int]) -> None:
    """Each history's rows are what the model makes of its writes."""
    writes = [write for history in histories for write in history]
    expected: dict[int, State] = {}
    for key, own in by_key(writes).items():
        state = outcome(own, DEFAULTS, INITIAL if key in initial else None)
        if state is not None:
            expected[key] = state
    found = {key: row for (key,), row in made.read(*by_key(writes)).items()}
    versions = {key: row.pop("versions") for key, row in found.items()}
    assert found == {key: state.values for key, state in expected.items()}
    if not made.declaration.write_behind.deletes:
        for key, state in expected.items():
            assert slots(made.declaration, versions[key]) == {
                name: version for name, version in state.versions.items() if name in ("name", "note")
            }


def slots(declaration: Declaration, array: Sequence[int | None] | None) -> dict[str, int]:
    """The versions in a row's array by field; `table_of` gives slots backwards, every second one."""
    found: dict[str, int] = {}
    for at, column in enumerate(reversed(declaration.versioned), 1):
        version = array[2 * at - 1] if array is not None and len(array) >= 2 * at else None
        if version is not None:
            found[column.name] = version
    return found


@pytest.mark.parametrize("declaration", [TALLY, MORTAL], ids=["without deletes", "with deletes"])
def test_rows_are_looked_up_also_when_the_table_was_empty_at_first(
    writebehind_isolated: Isolation, declaration: Declaration
) -> None:
    """A plan for an empty table joins by going over all of it, and would be kept while it grows."""
    with table_of(writebehind_isolated, declaration.cls, DDL.format(declaration.table)) as made:
        for first in range(0, 1_000, 50):
            keys = range(first, first + 50)
            made.patch(*[(key, {"name": "Ada"}) for key in keys])
            if declaration.write_behind.deletes:
                made.patch(*[(key, {}) for key in keys[:10]])
            assert len(made.read(*keys)) == (40 if declaration.write_behind.deletes else 50)
        # All of the table for each batch would be 10,000 rows, and as many for each read.
        assert rows_read(made, writebehind_isolated.schema, declaration.table) < 5_000
        assert rows_read(made, writebehind_isolated.bookkeeping_schema, "tombstone") < 5_000


def rows_read(made: Table, schema: str, table: str) -> int:
    """How many rows of a table were looked at."""
    made.writer._connected().execute("SELECT pg_stat_force_next_flush()")  # else it tells every second or so
    with psycopg.connect(made.url) as connection:
        query = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_all_tables WHERE schemaname = %s AND relname = %s"
        row = connection.execute(query, [schema, table]).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("declaration", [TALLY, MORTAL], ids=["without deletes", "with deletes"])
def test_batches_in_any_order_come_to_what_the_model_says_and_one_batch_does(
    writebehind_isolated: Isolation, declaration: Declaration
) -> None:
    firsts = itertools.count(1_000, KEYS_PER_HISTORY)
    with table_of(writebehind_isolated, declaration.cls, DDL.format(declaration.table)) as made:

        @settings(max_examples=300)
        @given(batched(deletes=declaration.write_behind.deletes), st.booleans())
        def come_to_the_model(batches: list[list[Write]], exists: bool) -> None:
            first, other = next(firsts), next(firsts)
            apart = [on_keys_from(first, batch) for batch in batches]
            at_once = on_keys_from(other, [write for batch in batches for write in batch])
            initial = {write.key for batch in [*apart, at_once] for write in batch} if exists else set[int]()
            insert(made, sorted(initial))

            for batch in apart:
                made.write([write.row(declaration) for write in batch])
            made.write([write.row(declaration) for write in at_once])

            check(made, [[write for batch in apart for write in batch], at_once], initial)

        come_to_the_model()


def test_a_batch_that_comes_again_after_newer_ones_changes_no_last_field(tally: Table) -> None:
    old = Write(1, 10, 0, {"name": "old", "note": "old"})
    tally.write([old.row(TALLY)])
    tally.write([Write(1, 20, 0, {"name": "new"}).row(TALLY)])

    tally.write([old.row(TALLY)])

    row = tally.read(1)[(1,)]
    assert (row["name"], row["note"]) == ("new", "old")


def test_slots_that_a_newer_declaration_uses_are_kept(tally: Table) -> None:
    tally.execute("INSERT INTO tallies (id, versions) VALUES (1, '{101,NULL,103,NULL,105}')")

    tally.write([Write(1, 20, 0, {"name": "new", "note": "new"}).row(TALLY)])

    assert tally.read(1)[(1,)]["versions"] == [101, 20, 103, 20, 105]


def test_a_delete_takes_the_row_and_a_late_older_write_cannot_bring_it_back(mortal: Table) -> None:
    mortal.write([Write(1, 10, 0, {"name": "a", "hits": 5}).row(MORTAL)])
    mortal.write([Write(1, 30, 0, {}).row(MORTAL)])
    assert mortal.read(1) == {}

    mortal.write([Write(1, 20, 0, {"name": "late", "hits": 1}).row(MORTAL), Write(2, 20, 0, {"hits": 1}).row(MORTAL)])

    assert mortal.read(1, 2).keys() == {(2,)}


def test_a_late_delete_takes_what_is_older_than_itself_and_leaves_the_rest(mortal: Table) -> None:
    mortal.write([Write(1, 10, 0, {"name": "a", "note": "a", "hits": 5, "best": 50}).row(MORTAL)])
    mortal.write([Write(1, 30, 0, {"name": "b"}).row(MORTAL)])

    mortal.write([Write(1, 20, 0, {}).row(MORTAL)])

    row = mortal.read(1)[(1,)]
    assert {name: row[name] for name in DEFAULTS} == {**DEFAULTS, "name": "b"}


def test_the_documented_limit_a_sum_with_a_newer_delta_keeps_its_older_ones_when_a_delete_is_late(
    mortal: Table,
) -> None:
    mortal.write([Write(1, 10, 0, {"hits": 5}).row(MORTAL)])
    mortal.write([Write(1, 30, 0, {"hits": 1}).row(MORTAL)])

    mortal.write([Write(1, 20, 0, {}).row(MORTAL)])

    assert mortal.read(1)[(1,)]["hits"] == 106


class Known(Entity, table="known", strategy=WriteBehind(on_missing="skip")):
    id: Annotated[int, Key]
    name: str


def test_a_patch_of_a_missing_row_is_skipped_where_that_is_declared(writebehind_isolated: Isolation) -> None:
    ddl = "CREATE TABLE known (id bigint PRIMARY KEY, name text NOT NULL, versions bigint[])"
    with table_of(writebehind_isolated, Known, ddl) as known:
        known.execute("INSERT INTO known VALUES (1, 'before')")

        known.patch((1, {"name": "after"}), (2, {"name": "nobody"}))

        found: dict[Any, dict[str, Any]] = known.read(1, 2)
        assert {key: row["name"] for key, row in found.items()} == {(1,): "after"}

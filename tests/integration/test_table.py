"""The catalog query on a real server, and the statements that are said to mend a table."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any

import psycopg
import pytest

from tests import everything
from writebehind.embedded import Isolation
from writebehind.shared import table
from writebehind.shared.declaration import Declaration, declaration_of
from writebehind.shared.entity import Entity, Int4, Key, Numeric, Sum, WriteBehind
from writebehind.shared.table import TableInfo

Connection = psycopg.Connection[Any]


class Mood(enum.Enum):
    GLAD = "it's good"
    SAD = "sad"


class Odd(Entity, table='Odd "Täble%s', strategy=WriteBehind(versions_column="select")):
    """Names that must be quoted."""

    order: Annotated[int, Key]
    user: str


class Visit(Entity, table="visits", strategy=WriteBehind()):
    """A key of text."""

    page: Annotated[str, Key]
    hits: Annotated[int, Sum]
    note: str | None = None


class Shop(Entity, table="shops", strategy=WriteBehind()):
    """A table in which everything can be wrong."""

    id: Annotated[int, Key]
    visits: Annotated[int, Sum, Int4]
    paid: Annotated[Decimal, Numeric(12, 2)]
    mood: Mood
    moods: list[Mood]
    note: str | None = None


SHOP = declaration_of(Shop)


@pytest.fixture
def connection(writebehind_isolated: Isolation) -> Iterator[Connection]:
    with psycopg.connect(writebehind_isolated.database_url, autocommit=True, application_name="test") as opened:
        yield opened


def look(connection: Connection, declaration: Declaration) -> TableInfo | None:
    return table.parse(connection.execute(table.QUERY, table.params(declaration)).fetchall())


def shop(connection: Connection, ddl: str) -> TableInfo:
    connection.execute(ddl.encode())
    found = look(connection, SHOP)
    assert found is not None
    return found


def test_a_table_with_every_type_of_column_is_accepted(connection: Connection) -> None:
    for statement in everything.DDL.split(";"):
        connection.execute(statement.encode())
    assert table.problems(everything.DECLARATION, look(connection, everything.DECLARATION)) == []


def test_columns_are_described_as_the_catalog_has_them(connection: Connection, writebehind_isolated: Isolation) -> None:
    found = shop(
        connection,
        "CREATE TYPE mood AS ENUM ('it''s good', 'sad');"
        "CREATE TABLE shops (id bigint GENERATED ALWAYS AS IDENTITY, gone int,"
        " paid numeric(12, 2) NOT NULL DEFAULT 1.5, note varchar(9) DEFAULT 'a % b',"
        " twice numeric GENERATED ALWAYS AS (paid * 2) STORED, moods mood[]);"
        "ALTER TABLE shops DROP COLUMN gone",
    )
    assert (found.schema, found.table) == (writebehind_isolated.schema, "shops")
    assert list(found.columns) == ["id", "paid", "note", "twice", "moods"]
    paid, note, moods = (found.columns[name] for name in ("paid", "note", "moods"))
    assert (paid.type_name, paid.full_type, paid.nullable, paid.default_expr) == (
        "numeric",
        "numeric(12,2)",
        False,
        "1.5",
    )
    assert (note.full_type, note.nullable, note.default_expr) == (
        "character varying(9)",
        True,
        "'a % b'::character varying",
    )
    assert moods.enum_labels == frozenset({"it's good", "sad"})
    assert [c.name for c in found.columns.values() if c.generated] == ["id", "twice"]
    assert found.columns["twice"].default_expr is None


def test_only_indexes_that_hold_for_every_row_make_a_key(connection: Connection) -> None:
    found = shop(
        connection,
        "CREATE TABLE shops (id bigint PRIMARY KEY, a int, b int, c text, UNIQUE (b, a),"
        " UNIQUE (c) DEFERRABLE, CONSTRAINT covering UNIQUE (c, a) INCLUDE (b));"
        "CREATE UNIQUE INDEX ON shops (a) WHERE b > 0;"
        "CREATE UNIQUE INDEX ON shops (lower(c));"
        "CREATE INDEX ON shops (b)",
    )
    assert found.unique_keys == {frozenset({"id"}), frozenset({"a", "b"}), frozenset({"a", "c"})}


def test_a_key_whose_collation_takes_different_text_for_equal_is_refused(connection: Connection) -> None:
    connection.execute(
        "CREATE COLLATION coarse (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
        "CREATE TABLE visits (page varchar(40) COLLATE coarse PRIMARY KEY, hits bigint, note text COLLATE coarse,"
        " versions bigint[]);"
        "INSERT INTO visits VALUES ('/Home', 1)"
    )
    merge = (
        "MERGE INTO visits AS t USING unnest(ARRAY['/home', '/HOME']) AS s(page) ON t.page = s.page"
        " WHEN MATCHED THEN UPDATE SET hits = t.hits + 1"
    )
    with pytest.raises(psycopg.errors.CardinalityViolation):
        connection.execute(merge)
    (problem,) = table.problems(declaration_of(Visit), look(connection, declaration_of(Visit)))
    assert problem.column == "page"
    assert "nondeterministic collation" in problem.message
    connection.execute(problem.fix.encode())
    assert table.problems(declaration_of(Visit), look(connection, declaration_of(Visit))) == []
    assert connection.execute(merge).rowcount == 0


def test_the_search_path_decides_when_no_schema_is_named(
    connection: Connection, writebehind_isolated: Isolation
) -> None:
    connection.execute("CREATE TABLE shops (id bigint)")
    connection.execute("SET search_path TO pg_catalog")
    assert look(connection, SHOP) is None
    params = {"schema": writebehind_isolated.schema, "table": "shops"}
    found = table.parse(connection.execute(table.QUERY, params).fetchall())
    assert found is not None
    assert found.schema == writebehind_isolated.schema


def test_a_partitioned_table_is_a_table_and_a_view_is_none(connection: Connection) -> None:
    found = shop(connection, "CREATE TABLE shops (id bigint PRIMARY KEY) PARTITION BY HASH (id)")
    assert found.unique_keys == {frozenset({"id"})}
    connection.execute("DROP TABLE shops")
    connection.execute("CREATE VIEW shops AS SELECT 1::bigint AS id")
    assert look(connection, SHOP) is None


def test_names_may_be_anything(connection: Connection) -> None:
    connection.execute('CREATE TABLE "Odd ""Täble%%s" ("order" bigint)', ())
    declaration = declaration_of(Odd)
    for problem in table.problems(declaration, look(connection, declaration)):
        connection.execute(problem.fix.encode())
    assert table.problems(declaration, look(connection, declaration)) == []


@pytest.mark.parametrize(
    "ddl",
    [
        "CREATE TABLE shops (other int)",
        """CREATE TABLE shops (
            id int, visits bigint, paid numeric(9, 5), mood text, moods text[], note char(9) NOT NULL,
            name int PRIMARY KEY
        )""",
        """CREATE TYPE mood AS ENUM ('sad');
        CREATE TABLE shops (id text PRIMARY KEY, visits real, paid text, mood mood, moods mood[], note int NOT NULL)""",
    ],
    ids=["no columns of ours", "other types", "labels missing"],
)
def test_the_statements_that_are_given_mend_the_table(connection: Connection, ddl: str) -> None:
    found = shop(connection, ddl)
    statements = [
        part.rpartition("declare it without `| None`, or ")[2].rpartition("change the declaration, or ")[2]
        for problem in table.problems(SHOP, found)
        for part in [problem.fix]
    ]
    assert statements
    for statement in dict.fromkeys(statements):
        connection.execute(statement.encode())
    assert table.problems(SHOP, look(connection, SHOP)) == []

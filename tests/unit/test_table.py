"""A table compared with a declaration: every difference is named, with the statement that mends it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from decimal import Decimal
from typing import Annotated

import pytest

from writebehind.shared import table
from writebehind.shared.declaration import VersionColumn, declaration_of
from writebehind.shared.entity import CacheAside, Entity, Int4, Key, Max, Numeric, Sum, WriteBehind, WriteThrough
from writebehind.shared.table import ColumnInfo, Problem, TableInfo


class Mood(enum.Enum):
    GLAD = "glad"
    SAD = "so sad"


class Player(Entity, table="players", schema="game", strategy=WriteBehind()):
    id: Annotated[int, Key]
    score: Annotated[int, Sum, Int4]
    best: Annotated[float | None, Max] = None
    money: Annotated[Decimal, Sum, Numeric(12, 2)] = Decimal(0)
    name: str = ""
    seen: dt.datetime | None = None
    mood: Mood | None = None
    moods: list[Mood] | None = None
    tags: list[str] | None = None


class Tally(Entity, table="tallies", strategy=WriteBehind()):
    """Nothing that needs a version."""

    day: Annotated[dt.date, Key]
    page: Annotated[str, Key]
    hits: Annotated[int, Sum]


LABELS = frozenset({"glad", "so sad"})


def column(name: str, type_name: str, *, nullable: bool = True, full: str | None = None, **rest: object) -> ColumnInfo:
    plain = ColumnInfo(name, type_name, full or type_name, nullable, None, generated=False, enum_labels=None)
    return dataclasses.replace(plain, **rest)  # type: ignore[arg-type]  # the fields' own types


def info(*changes: ColumnInfo, without: str = "", unique: tuple[tuple[str, ...], ...] = (("id",),)) -> TableInfo:
    """The table that `Player` declares, with some columns changed."""
    columns = [
        column("id", "bigint", nullable=False),
        column("score", "integer", nullable=False),
        column("best", "double precision"),
        column("money", "numeric", full="numeric(12,2)", nullable=False),
        column("name", "character varying", full="character varying(40)", nullable=False),
        column("seen", "timestamp with time zone"),
        column("mood", "mood", enum_labels=LABELS),
        column("moods", "mood[]", enum_labels=LABELS),
        column("tags", "text[]"),
        column("versions", "bigint[]"),
        column("undeclared", "point"),
        *changes,
    ]
    by_name = {c.name: c for c in columns if c.name != without}
    return TableInfo("game", "players", by_name, frozenset(map(frozenset, unique)))


def problems(there: TableInfo | None) -> list[Problem]:
    return table.problems(declaration_of(Player), there)


def only(there: TableInfo | None) -> Problem:
    found = problems(there)
    assert len(found) == 1, found
    return found[0]


def test_a_table_as_declared_has_no_problems() -> None:
    assert problems(info()) == []


def test_no_versions_column_is_needed_when_nothing_has_a_version() -> None:
    columns = {c.name: c for c in (column("day", "date"), column("page", "text"), column("hits", "bigint"))}
    there = TableInfo("public", "tallies", columns, frozenset({frozenset({"page", "day"})}))
    assert table.problems(declaration_of(Tally), there) == []


def test_a_missing_table_is_named_with_its_schema() -> None:
    problem = only(None)
    assert problem.column is None
    assert problem.message == "Player: there is no table game.players"
    assert 'CREATE TABLE "game"."players"' in problem.fix


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("score", 'ALTER TABLE "game"."players" ADD COLUMN "score" integer'),
        ("money", 'ALTER TABLE "game"."players" ADD COLUMN "money" numeric(12,2)'),
        ("name", 'ALTER TABLE "game"."players" ADD COLUMN "name" text'),
        ("tags", 'ALTER TABLE "game"."players" ADD COLUMN "tags" text[]'),
        ("versions", 'ALTER TABLE "game"."players" ADD COLUMN "versions" bigint[]'),
        (
            "mood",
            (
                "CREATE TYPE \"mood_enum\" AS ENUM ('glad', 'so sad'); "
                'ALTER TABLE "game"."players" ADD COLUMN "mood" "mood_enum"'
            ),
        ),
        (
            "moods",
            (
                "CREATE TYPE \"moods_enum\" AS ENUM ('glad', 'so sad'); "
                'ALTER TABLE "game"."players" ADD COLUMN "moods" "moods_enum"[]'
            ),
        ),
    ],
)
def test_a_missing_column_comes_with_the_statement_that_adds_it(name: str, fix: str) -> None:
    problem = only(info(without=name))
    assert problem.column == name
    assert f"Player: game.players has no column {name}" in problem.message
    assert problem.fix == fix


@pytest.mark.parametrize(
    ("there", "is_there", "needed"),
    [
        (column("score", "bigint", nullable=False), "bigint", "integer"),
        (column("best", "real"), "real", "double precision"),
        (column("money", "numeric", full="numeric(12,3)", nullable=False), "numeric(12,3)", "numeric(12,2)"),
        (column("money", "numeric", nullable=False), "numeric", "numeric(12,2)"),
        (column("name", "character", full="character(40)", nullable=False), "character(40)", "text"),
        (column("seen", "timestamp without time zone"), "timestamp without time zone", "timestamp with time zone"),
        (
            column("seen", "timestamp with time zone", full="timestamp(3) with time zone"),
            "timestamp(3) with time zone",
            "timestamp with time zone",
        ),
        (column("mood", "text"), "text", "enum Mood of glad, so sad"),
        (column("moods", "mood", enum_labels=LABELS), "mood", "enum Mood[] of glad, so sad"),
        (column("moods", "integer[]"), "integer[]", "enum Mood[] of glad, so sad"),
        (column("tags", "text"), "text", "text[]"),
        (column("name", "mood", nullable=False, enum_labels=LABELS), "mood", "text"),
    ],
    ids=lambda value: value.full_type if isinstance(value, ColumnInfo) else None,
)
def test_a_column_of_another_type_is_named_with_both_types(there: ColumnInfo, is_there: str, needed: str) -> None:
    problem = only(info(there))
    assert problem.column == there.name
    assert problem.message == f"Player: game.players.{there.name} is {is_there}; the declaration needs {needed}"
    assert f'ALTER COLUMN "{there.name}" TYPE ' in problem.fix


def test_labels_must_be_the_same_on_both_sides() -> None:
    lacking = only(info(column("mood", "mood", enum_labels=frozenset({"glad"}))))
    assert "the enum mood lacks so sad" in lacking.message
    assert lacking.fix == "ALTER TYPE mood ADD VALUE 'so sad'"
    more = only(info(column("moods", "mood[]", enum_labels=LABELS | {"bored"})))
    assert "the enum mood also has bored" in more.message
    assert "add bored" in more.fix


def test_none_needs_a_column_that_takes_null() -> None:
    problem = only(info(column("best", "double precision", nullable=False)))
    assert "NOT NULL" in problem.message
    assert 'ALTER COLUMN "best" DROP NOT NULL' in problem.fix


def test_a_column_that_the_database_generates_is_refused() -> None:
    problem = only(info(column("score", "integer", nullable=False, generated=True)))
    assert "generated" in problem.message


@pytest.mark.parametrize(
    ("unique", "constraint"),
    [((), "PRIMARY KEY"), ((("name",),), "UNIQUE"), ((("id", "name"),), "UNIQUE")],
)
def test_the_key_must_be_exactly_a_unique_index(unique: tuple[tuple[str, ...], ...], constraint: str) -> None:
    problem = only(info(unique=unique))
    assert "no primary key or unique index on exactly (id)" in problem.message
    assert problem.fix == f'ALTER TABLE "game"."players" ADD {constraint} ("id")'


@pytest.mark.parametrize("type_name", ["citext", "extensions.citext"])
def test_a_field_may_ignore_case(type_name: str) -> None:
    assert problems(info(column("name", type_name, nullable=False))) == []


@pytest.mark.parametrize("type_name", ["citext", "extensions.citext"])
def test_a_key_must_not_ignore_case(type_name: str) -> None:
    columns = {c.name: c for c in (column("day", "date"), column("page", type_name), column("hits", "bigint"))}
    there = TableInfo("public", "tallies", columns, frozenset({frozenset({"page", "day"})}))
    (problem,) = table.problems(declaration_of(Tally), there)
    assert problem.column == "page"
    assert "differ in case" in problem.message


def test_a_versions_column_of_another_type_is_refused() -> None:
    problem = only(info(column("versions", "integer[]")))
    assert problem.column == "versions"
    assert "versions is integer[]; bigint[] is needed for the versions of its fields" in problem.message


def test_all_problems_are_found_at_once() -> None:
    found = problems(info(column("best", "real"), column("versions", "text"), without="name", unique=()))
    assert {problem.column for problem in found} == {"best", "versions", "name", None}


def test_names_that_need_quotes_get_them() -> None:
    there = dataclasses.replace(info(), schema='we"ird', table="Order")
    assert (
        table.version_ddl(there, VersionColumn("select", "bigint[]"))
        == 'ALTER TABLE "we""ird"."Order" ADD COLUMN "select" bigint[]'
    )


def test_no_rows_are_no_table() -> None:
    assert table.parse([]) is None


class Billing(Entity, table="users", strategy=WriteThrough()):
    id: Annotated[int, Key]
    status: str = ""


class Contact(Entity, table="users", strategy=CacheAside()):
    id: Annotated[int, Key]
    mail: str = ""


def users(*extra: ColumnInfo) -> TableInfo:
    columns = (column("id", "bigint", nullable=False), column("status", "text"), column("mail", "text"), *extra)
    return TableInfo("public", "users", {c.name: c for c in columns}, frozenset({frozenset({"id"})}))


def test_write_through_needs_a_column_of_versions_and_cache_aside_none() -> None:
    assert table.problems(declaration_of(Contact), users()) == []
    assert table.problems(declaration_of(Billing), users(column("version", "bigint"))) == []
    [missing] = table.problems(declaration_of(Billing), users())
    assert missing.message == "Billing: public.users has no column version for the version of its rows"
    assert missing.fix == 'ALTER TABLE "public"."users" ADD COLUMN "version" bigint'
    [wrong] = table.problems(declaration_of(Billing), users(column("version", "bigint[]")))
    assert "version is bigint[]; bigint is needed for the version of its rows" in wrong.message
    assert "WriteThrough(version_column=...)" in wrong.fix

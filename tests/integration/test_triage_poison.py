"""Triage of what Postgres says about the data: each refusal is provoked by a batch of the flusher's own writer."""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from typing import Annotated, Any

import psycopg
import pytest

from tests.integration.database_table import Table, table_of
from writebehind.embedded.isolation import Isolation
from writebehind.flusher.triage import Verdict, triage
from writebehind.shared.entity import Entity, Int4, Key, Sum, WriteBehind
from writebehind.shared.record import KEYS, Row


class Mood(enum.Enum):
    GLAD = "glad"
    SAD = "sad"


class Picky(Entity, table="picky", strategy=WriteBehind()):
    """A field of each kind that a table can refuse."""

    id: Annotated[int, Key]
    title: str | None = None
    hits: Annotated[int, Sum] = 0
    small: Annotated[int, Sum, Int4] = 0
    blob: bytes | None = None
    doc: dict[str, Any] | None = None
    mood: Mood | None = None


DDL = """
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE TABLE picky (id bigint PRIMARY KEY, title text, hits bigint NOT NULL DEFAULT 0, small int NOT NULL DEFAULT 0,
    blob bytea, doc jsonb, mood mood, versions bigint[])
"""
TRIGGER = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE found int; BEGIN {} RETURN NEW; END $$;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON picky FOR EACH ROW EXECUTE FUNCTION refuse()
"""
ADD = "ALTER TABLE picky ADD "
BIGGEST, BIG_TEXT = 2**63 - 1, "".join(f"{n * n:x}" for n in range(3000))  # does not compress to a page's third

#: SQLSTATE, what makes the table refuse, the patches of key 1 that are written one after the other; the last one fails.
REFUSALS: dict[str, tuple[Any, ...]] = {
    "text too long": ("22001", "ALTER TABLE picky ALTER title TYPE varchar(3)", {"title": "four"}),
    "sum beyond bigint": ("22003", "", {"hits": BIGGEST}, {"hits": 1}),
    "sum beyond int": ("22003", "", {"small": 2**31 - 1}, {"small": 1}),
    "no date": ("22007", ADD + "CHECK (title::date > '2000-01-01')", {"title": "never"}),
    "no such day": ("22008", ADD + "CHECK (title::date > '2000-01-01')", {"title": "2026-02-30"}),
    "division by zero": ("22012", ADD + "per float GENERATED ALWAYS AS (1 / hits) STORED", {"title": "a"}),
    "not UTF-8": ("22021", ADD + "CHECK (convert_from(blob, 'UTF8') <> '')", {"blob": b"\xff"}),
    "no such label": ("22P02", "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", {"mood": Mood.SAD}),
    "no number": ("22P02", ADD + "CHECK (title::int > 0)", {"title": "one"}),
    "not in Latin-1": ("22P05", ADD + "CHECK (convert_to(title, 'LATIN1') <> '')", {"title": "€"}),
    "required": ("23502", "ALTER TABLE picky ALTER title SET NOT NULL", {"hits": 1}),
    "no such parent": ("23503", ADD + "FOREIGN KEY (small) REFERENCES picky (id) NOT VALID", {"small": 7}),
    "check": ("23514", ADD + "CHECK (hits < 9)", {"hits": 8}, {"hits": 1}),
    "exclusion": ("23P01", ADD + "EXCLUDE (title WITH =); INSERT INTO picky VALUES (9, 'a')", {"title": "a"}),
    "another unique index": ("23505", ADD + "UNIQUE (title); INSERT INTO picky VALUES (9, 'a')", {"title": "a"}),
    "index row too large": ("54000", "CREATE INDEX ON picky (title)", {"title": BIG_TEXT}),
    "raised by a trigger": ("P0001", TRIGGER.format("RAISE 'no';"), {"hits": 1}),
    "raised with a data code": ("22000", TRIGGER.format("RAISE data_exception;"), {"hits": 1}),
    "raised as a unique violation": ("23505", TRIGGER.format("RAISE unique_violation;"), {"hits": 1}),
    "no row in a trigger": ("P0002", TRIGGER.format("SELECT 1 INTO STRICT found WHERE false;"), {"hits": 1}),
    "failed assertion": ("P0004", TRIGGER.format("ASSERT NEW.hits <> 1;"), {"hits": 1}),
    "case without a branch": ("20000", TRIGGER.format("CASE NEW.hits WHEN 0 THEN END CASE;"), {"hits": 1}),
}


@pytest.fixture
def picky(writebehind_isolated: Isolation) -> Iterator[Table]:
    with table_of(writebehind_isolated, Picky, DDL) as made:
        yield made


def verdict(made: Table, error: BaseException) -> Verdict:
    return triage(error, made.info.indexes_on_key(made.declaration))


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refused_value_is_poison(picky: Table, case: str) -> None:
    state, change, *before, refused = REFUSALS[case]
    if change:
        picky.execute(change)
    for patch in before:
        picky.patch((1, patch))

    with pytest.raises(psycopg.Error) as caught:
        picky.patch((1, refused), (2, {"title": "2000-01-02"}))

    assert (caught.value.sqlstate, verdict(picky, caught.value)) == (state, Verdict.POISON)


def forged(made: Table, **values: Any) -> Row:
    """A record whose values no client of ours lets through."""
    patch: dict[str, Any] = {"hits": 1, "title": "a", "doc": {}}
    row = list(made.row(1, {name: patch[name] for name in values}))
    for name, value in values.items():
        position = next(c.position for c in made.declaration.fields if c.name == name)
        row[KEYS + 1 + position] = value
    return tuple(row)


@pytest.mark.parametrize(
    ("state", "name", "value"),
    [
        ("22P05", "doc", '{"a": "\\u0000"}'),
        ("22P02", "doc", "{"),
        ("54001", "doc", "[" * 100_000),
        ("22021", "title", "\x00"),
    ],
    ids=["NUL in JSON", "no JSON", "JSON nested too deep", "NUL in text"],
)
def test_a_value_that_postgres_cannot_read_is_poison(picky: Table, state: str, name: str, value: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        picky.write([forged(picky, **{name: value})])

    assert (caught.value.sqlstate, verdict(picky, caught.value)) == (state, Verdict.POISON)


def test_a_text_that_psycopg_refuses_is_poison_without_a_code(picky: Table) -> None:
    with psycopg.connect(picky.url) as connection, pytest.raises(psycopg.DataError) as caught:
        connection.execute("SELECT %t", ["\x00"])

    assert (caught.value.sqlstate, verdict(picky, caught.value)) == (None, Verdict.POISON)


def test_a_sum_of_a_batch_beyond_64_bits_is_poison(picky: Table) -> None:
    with pytest.raises((struct.error, OverflowError)) as caught:
        picky.patch((1, {"hits": BIGGEST}), (1, {"hits": 1}))

    assert verdict(picky, caught.value) is Verdict.POISON


def test_a_lone_surrogate_is_poison(picky: Table) -> None:
    with pytest.raises(UnicodeEncodeError) as caught:
        picky.write([forged(picky, title="\ud800")])

    assert verdict(picky, caught.value) is Verdict.POISON


class Day(Entity, table="days", strategy=WriteBehind()):
    id: Annotated[int, Key]
    hits: Annotated[int, Sum] = 0


def test_a_row_that_no_partition_takes_is_poison(writebehind_isolated: Isolation) -> None:
    ddl = "CREATE TABLE days (id bigint PRIMARY KEY, hits bigint NOT NULL DEFAULT 0) PARTITION BY RANGE (id)"
    with table_of(writebehind_isolated, Day, ddl) as days:
        with pytest.raises(psycopg.Error) as caught:
            days.patch((1, {"hits": 1}))

        assert (caught.value.sqlstate, verdict(days, caught.value)) == ("23514", Verdict.POISON)

"""Every type of column, from the caller's value through the record and the statement to the row and back, exactly."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import errors

from tests.everything import DDL, DECLARATION, Everything, Mood, patches, same
from tests.integration.database_table import Table, table_of
from writebehind.embedded.isolation import Isolation
from writebehind.shared import table
from writebehind.shared.declaration import declaration_of
from writebehind.shared.entity import Entity, Int2, Int4, Key, Max, Min, Numeric, Sum, WriteBehind

KOLKATA = dt.timezone(dt.timedelta(hours=5, minutes=30))
EXTREMES: dict[str, list[Any]] = {
    "small": [2**15 - 1, -(2**15), 0],
    "medium": [2**31 - 1, -(2**31)],
    "large": [2**63 - 1, -(2**63), 2**53 + 1],
    "price": [Decimal("9" * 36 + ".9999"), Decimal("-0.0001"), Decimal("1.5"), Decimal("NaN"), 7],
    "amount": [Decimal("0.1000"), Decimal("1E+999"), Decimal("-1E-999"), Decimal("NaN"), Decimal("-Infinity")],
    "ratio": [0.1, -0.0, 5e-324, 1.7976931348623157e308, float("nan"), float("inf"), float("-inf"), 3],
    "title": ["", " ", "NULL", "\\", "%s", "日本語 🦀", "a\nb\tc", "x" * 100_000],
    "nick": ["", "é" * 30],
    "folded": ["MiXed", ""],
    "active": [True, False],
    "moment": [
        dt.datetime(2024, 3, 31, 2, 30, 0, 123456, tzinfo=KOLKATA),
        dt.datetime(1999, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC),
        dt.datetime.min.replace(tzinfo=dt.UTC),
        dt.datetime.max.replace(tzinfo=dt.UTC),
    ],
    "day": [dt.date.min, dt.date.max, dt.date(2024, 2, 29)],
    "ident": [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)],
    "blob": [b"", b"\x00\xff\\x", bytes(range(256))],
    "doc": [{}, {"a": [1, 2.5, None, True, "é", {"b": -(2**70)}], "": "\\u0000"}],
    "deep": [[], [[[]]], [1, "x", None]],
    "mood": [*Mood, "glad"],
    "smalls": [[], [-(2**15), 2**15 - 1]],
    "larges": [[2**63 - 1, None, -(2**63)], [None]],
    "prices": [[Decimal("1.5"), Decimal("NaN")]],
    "amounts": [[Decimal("0.10"), Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity"), None]],
    "ratios": [[float("nan"), float("inf"), -0.0, 0.1, None]],
    "titles": [[], [""], [None], ["NULL", "null", 'a"b', "a\\b", "{a,b}", " ", "é", None, ""], ("tuple",)],
    "nicks": [["a", ""]],
    "actives": [[True, False, None]],
    "moments": [[dt.datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=KOLKATA), None, dt.datetime.max.replace(tzinfo=dt.UTC)]],
    "days": [[dt.date.min, None, dt.date.max]],
    "idents": [[uuid.UUID(int=5), None]],
    "blobs": [[b"", b"\x00\\", None]],
    "moods": [[*Mood, None]],
}


@pytest.fixture
def everything(writebehind_isolated: Isolation) -> Iterator[Table]:
    # A zone far from UTC and with half an hour: whoever forgets the zone is off by both.
    with table_of(writebehind_isolated, Everything, DDL, zone="Asia/Kolkata") as made:
        yield made


def python(patch: dict[str, Any]) -> dict[str, Any]:
    return {column.name: value for column, value in DECLARATION.check_patch(patch)}


def check(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """The row holds these values, and nothing in the other fields."""
    for column in DECLARATION.fields:
        value, wanted = found[column.name], expected.get(column.name)
        assert same(value, wanted), f"{column.name}: {value!r} instead of {wanted!r}"


def test_extreme_values_of_every_type_come_back_as_they_were(everything: Table) -> None:
    assert EXTREMES.keys() == {column.name for column in DECLARATION.fields}
    written = [{name: values[at % len(values)] for name, values in EXTREMES.items()} for at in range(9)]

    everything.patch(*enumerate(written))

    found = everything.read(*range(len(written)))
    for at, patch in enumerate(written):
        check(found[(at,)], python(patch))


def test_any_values_come_back_as_they_were(everything: Table) -> None:
    keys = itertools.count(1)

    @settings(max_examples=40)
    @given(st.lists(st.tuples(patches(), patches()), min_size=1, max_size=4))
    def come_back(written: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
        keyed = {next(keys): pair for pair in written}
        everything.patch(*[(key, first) for key, (first, _) in keyed.items()])
        everything.patch(*[(key, second) for key, (_, second) in keyed.items()])
        found = everything.read(*keyed)
        for key, (first, second) in keyed.items():
            check(found[(key,)], python({**first, **second}))

    come_back()


def test_columns_that_hold_only_null_are_written_as_null(everything: Table) -> None:
    full = {name: values[0] for name, values in EXTREMES.items()}
    everything.patch((1, full), (2, full))

    everything.patch((1, dict.fromkeys(EXTREMES)), (3, dict.fromkeys(EXTREMES)))

    found = everything.read(1, 2, 3)
    check(found[(1,)], {})
    check(found[(2,)], python(full))
    check(found[(3,)], {})


def test_an_empty_text_an_empty_list_and_none_are_three_things(everything: Table) -> None:
    everything.patch((1, {"title": "", "titles": []}), (2, {"title": None, "titles": None}), (3, {"titles": [None]}))

    found = everything.read(1, 2, 3)

    assert [(row["title"], row["titles"]) for _, row in sorted(found.items())] == [
        ("", []),
        (None, None),
        (None, [None]),
    ]


class Account(Entity, table="accounts", strategy=WriteBehind()):
    id: Annotated[int, Key]
    owner: str
    nick: str | None = None
    city: str | None = None
    points: Annotated[int, Sum, Int2] = 0
    paid: Annotated[Decimal, Sum, Numeric(10, 2)] = Decimal(0)
    best: Annotated[int, Max, Int4] = 0
    first_seen: Annotated[dt.datetime | None, Min] = None


ACCOUNTS = """
CREATE TABLE accounts (
    id bigint PRIMARY KEY, owner varchar(5) NOT NULL, nick text DEFAULT 'none',
    city varchar(8) DEFAULT format('%s {}', 'x'),
    points smallint NOT NULL DEFAULT 100, paid numeric(10, 2) NOT NULL DEFAULT 0.50, best int DEFAULT 10,
    first_seen timestamptz, versions bigint[]
)
"""


@pytest.fixture
def accounts(writebehind_isolated: Isolation) -> Iterator[Table]:
    with table_of(writebehind_isolated, Account, ACCOUNTS) as made:
        yield made


def test_what_the_patch_of_a_missing_row_leaves_out_is_the_tables_default(accounts: Table) -> None:
    accounts.patch((1, {"owner": "ann"}), (2, {"owner": "bob", "nick": None, "city": None}))

    found = accounts.read(1, 2)

    assert [
        (row["nick"], row["city"], row["points"], row["paid"], row["best"]) for _, row in sorted(found.items())
    ] == [
        ("none", "x {}", 100, Decimal("0.50"), 10),
        (None, None, 100, Decimal("0.50"), 10),
    ]


def test_a_new_row_starts_at_the_tables_defaults_however_its_writes_are_batched(accounts: Table) -> None:
    moment = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    combining = {"points": 5, "paid": Decimal("0.25"), "best": 7, "first_seen": moment}

    accounts.patch((1, {"owner": "ann", **combining}))  # in one batch
    accounts.patch((2, {"owner": "bob"}))
    accounts.patch((2, combining))

    found = accounts.read(1, 2)
    for row in found.values():
        assert (row["points"], row["paid"], row["best"], row["first_seen"]) == (105, Decimal("0.75"), 10, moment)


def test_a_not_null_column_can_be_left_out_of_the_patch_of_an_existing_row(accounts: Table) -> None:
    accounts.patch((1, {"owner": "ann"}))

    accounts.patch((1, {"nick": "a"}))

    row = accounts.read(1)[(1,)]
    assert (row["owner"], row["nick"]) == ("ann", "a")


@pytest.mark.parametrize(
    ("key", "patch", "error"),
    [
        (1, {"owner": "toolong"}, errors.StringDataRightTruncation),
        (3, {"owner": "toolong"}, errors.StringDataRightTruncation),
        (1, {"points": 32_700}, errors.NumericValueOutOfRange),
        (3, {"owner": "ann", "points": 32_700}, errors.NumericValueOutOfRange),
        (3, {"nick": "no owner"}, errors.NotNullViolation),
    ],
)
def test_what_the_column_cannot_hold_is_refused_and_neither_cut_nor_written(
    accounts: Table, key: int, patch: dict[str, Any], error: type[psycopg.Error]
) -> None:
    accounts.patch((1, {"owner": "ann"}), (2, {"owner": "bob"}))
    before = accounts.read(1, 2, 3)

    with pytest.raises(error):
        accounts.patch((key, patch), (2, {"nick": "neighbour"}))

    assert accounts.read(1, 2, 3) == before
    accounts.patch((2, {"nick": "neighbour"}))
    assert accounts.read(2)[(2,)]["nick"] == "neighbour"


def test_a_label_that_the_databases_enum_does_not_have_is_refused(everything: Table) -> None:
    everything.execute("ALTER TYPE mood RENAME VALUE 'glad' TO 'happy'")

    with pytest.raises(errors.InvalidTextRepresentation):
        everything.patch((1, {"mood": Mood.GLAD}))


class _Keyed(Entity, abstract=True):
    name: str
    hits: Annotated[int, Sum] = 0


class BySmall(_Keyed, table="keyed", strategy=WriteBehind()):
    key: Annotated[int, Int2, Key]


class ByMedium(_Keyed, table="keyed", strategy=WriteBehind()):
    key: Annotated[int, Int4, Key]


class ByLarge(_Keyed, table="keyed", strategy=WriteBehind()):
    key: Annotated[int, Key]


class ByText(_Keyed, table="keyed", strategy=WriteBehind()):
    key: Annotated[str, Key]


class ByBool(_Keyed, table="keyed", strategy=WriteBehind()):
    key: Annotated[bool, Key]


class ByMoment(_Keyed, table="keyed", strategy=WriteBehind()):
    key: Annotated[dt.datetime, Key]


class ByDay(_Keyed, table="keyed", strategy=WriteBehind()):
    key: Annotated[dt.date, Key]


class ByIdent(_Keyed, table="keyed", strategy=WriteBehind()):
    key: Annotated[uuid.UUID, Key]


class ByBlob(_Keyed, table="keyed", strategy=WriteBehind()):
    key: Annotated[bytes, Key]


class ByTwo(_Keyed, table="keyed", strategy=WriteBehind(deletes=True)):
    key: Annotated[str, Key]
    other: Annotated[str, Key]


KEYS: list[tuple[type[Entity], str, list[Any]]] = [
    (BySmall, "key smallint PRIMARY KEY", [2**15 - 1, -(2**15), 0]),
    (ByMedium, "key int PRIMARY KEY", [2**31 - 1, -(2**31)]),
    (ByLarge, "key bigint PRIMARY KEY", [2**63 - 1, -(2**63), 2**53, 2**53 + 1]),
    (ByText, "key varchar(50) PRIMARY KEY", ["", " ", "a|b", "a%7Cb", "{x}", "é", "e\u0301", "NULL", "A", "a"]),
    (ByBool, "key boolean PRIMARY KEY", [True, False]),
    (
        ByMoment,
        "key timestamptz PRIMARY KEY",
        [
            dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
            dt.datetime(2024, 1, 1, tzinfo=KOLKATA),
            dt.datetime.max.replace(tzinfo=dt.UTC),
        ],
    ),
    (ByDay, "key date PRIMARY KEY", [dt.date.min, dt.date.max]),
    (ByIdent, "key uuid PRIMARY KEY", [uuid.UUID(int=1), uuid.UUID(int=2**127)]),
    (ByBlob, "key bytea PRIMARY KEY", [b"", b"|", b"\x00", b"\xff{}%"]),
    (
        ByTwo,
        "key text, other text, PRIMARY KEY (other, key)",
        [("a|b", "c"), ("a", "b|c"), ("a%7Cb", "c"), ("", ""), ("", "|"), ("|", ""), ("a", "{b}")],
    ),
]


@pytest.mark.parametrize(("cls", "column", "keys"), KEYS, ids=[cls.__name__ for cls, _, _ in KEYS])
def test_every_type_of_key_finds_its_own_row(
    writebehind_isolated: Isolation, cls: type[Entity], column: str, keys: list[Any]
) -> None:
    ddl = f"CREATE TABLE keyed (name text, hits bigint, versions bigint[], {column})"
    declaration = declaration_of(cls)
    with table_of(writebehind_isolated, cls, ddl, zone="Asia/Kolkata") as keyed:
        keyed.patch(*[(key, {"name": f"{at}", "hits": at}) for at, key in enumerate(keys)])
        keyed.patch(*[(key, {"hits": 10}) for key in reversed(keys)])

        found = keyed.read(*keys)

        assert {key: (row["name"], row["hits"]) for key, row in found.items()} == {
            declaration.check_key(key): (f"{at}", at + 10) for at, key in enumerate(keys)
        }
        for key in found:
            assert declaration.parse_key(declaration.key_text(key)) == key
        if declaration.write_behind.deletes:
            keyed.patch((keys[0], {}))
            assert keyed.read(*keys).keys() == found.keys() - {declaration.check_key(keys[0])}


class Exact(Entity, table="exact", strategy=WriteBehind()):
    id: Annotated[str, Key]
    code: str
    moment: dt.datetime
    moments: list[dt.datetime]
    price: Annotated[Decimal, Numeric(10, 2)]
    prices: list[Annotated[Decimal, Numeric(10, 2)]]


@pytest.mark.parametrize(
    ("column", "type_", "message"),
    [
        ("code", "character(5)", "code is character(5); the declaration needs"),  # pads
        ("moment", "timestamptz(3)", "moment is timestamp(3) with time zone; the declaration needs"),  # rounds
        ("moments", "timestamptz(0)[]", "moments is timestamp(0) with time zone[]; the declaration needs"),
        ("moment", "timestamp", "moment is timestamp without time zone; the declaration needs"),
        ("price", "numeric(10,1)", "price is numeric(10,1); the declaration needs numeric(10,2)"),
        ("price", "numeric", "price is numeric; the declaration needs numeric(10,2)"),
        ("prices", "numeric(10,1)[]", "prices is numeric(10,1)[]; the declaration needs numeric(10,2)[]"),
        ("id", "citext", "id is citext; keys that differ in case would be two cache entries of one row"),
    ],
)
def test_a_column_that_would_change_what_it_is_given_is_refused(
    writebehind_isolated: Isolation, column: str, type_: str, message: str
) -> None:
    types = {
        "id": "text",
        "code": "text",
        "moment": "timestamptz",
        "moments": "timestamptz[]",
        "price": "numeric(10,2)",
        "prices": "numeric(10,2)[]",
        "versions": "bigint[]",
        column: type_,
    }
    ddl = f"CREATE TABLE exact ({', '.join(f'{name} {of}' for name, of in types.items())}, PRIMARY KEY (id))"
    declaration = declaration_of(Exact)
    with psycopg.connect(writebehind_isolated.database_url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS citext SCHEMA public")
        connection.execute("SELECT set_config('search_path', current_setting('search_path') || ', public', false)")
        connection.execute(ddl.encode())
        info = table.parse(connection.execute(table.QUERY, table.params(declaration)).fetchall())

    problems = table.problems(declaration, info)

    assert [problem.column for problem in problems] == [column]
    assert message in problems[0].message
    assert problems[0].fix

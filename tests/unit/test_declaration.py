"""A declaration compiled: columns, keys and their texts, and what a call is refused for."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import Field, field_validator

from writebehind.shared.declaration import FIELDS_MAX, Declaration, declaration_of
from writebehind.shared.entity import Entity, Int2, Int4, Json, Key, Last, Max, Merge, Min, Numeric, Sum, WriteBehind
from writebehind.shared.errors import DeclarationError, InvalidWrite

SECRET = "s3cret"


class Mood(enum.Enum):
    GLAD = "glad"
    SAD = "sad"


class Player(Entity, table="players", strategy=WriteBehind()):
    id: Annotated[int, Key]
    name: Annotated[str, Field(max_length=10, pattern="^[a-z0-9]*$")] = "nobody"
    nick: Annotated[str, Field(min_length=2)] | None = None
    score: Annotated[int, Sum, Int4] = 0
    level: Annotated[int, Int2] = 1
    best: Annotated[float | None, Max] = None
    worst: Annotated[Decimal | None, Min] = None
    money: Annotated[Decimal, Sum, Numeric(8, 2)] = Decimal(0)
    seen: dt.datetime | None = None
    mood: Mood | None = None
    tags: list[str] | None = None
    extra: dict[str, Any] | None = None
    active: bool = True


class Shelf(Entity, table="shelves", strategy=WriteBehind(deletes=True)):
    shop: Annotated[str, Key]
    day: Annotated[dt.date, Key]
    row: Annotated[int, Int2, Key]
    stock: Annotated[int, Sum]


PLAYER: Declaration = declaration_of(Player)
SHELF: Declaration = declaration_of(Shelf)


def entity(annotations: dict[str, Any], *, deletes: bool = False) -> type[Entity]:
    """A class with these annotations, made as a `class` statement would."""
    namespace: dict[str, Any] = {"__module__": __name__, "__annotations__": annotations}
    made: type[Entity] = type("Made", (Entity,), namespace, table="made", strategy=WriteBehind(deletes=deletes))
    return made


def test_columns_know_their_kind_their_merge_and_whether_none_is_a_value() -> None:
    told = {c.name: (c.kind.name, c.merge, c.nullable) for c in PLAYER.fields}

    assert told == {
        "name": ("text", Merge.LAST, False),
        "nick": ("text", Merge.LAST, True),
        "score": ("int4", Merge.SUM, False),
        "level": ("int2", Merge.LAST, False),
        "best": ("float8", Merge.MAX, True),
        "worst": ("numeric", Merge.MIN, True),
        "money": ("numeric(8,2)", Merge.SUM, False),
        "seen": ("timestamptz", Merge.LAST, True),
        "mood": ("enum Mood", Merge.LAST, True),
        "tags": ("text[]", Merge.LAST, True),
        "extra": ("jsonb", Merge.LAST, True),
        "active": ("bool", Merge.LAST, False),
    }
    assert [c.name for c in PLAYER.keys] == ["id"]


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (int, "int8"),
        (Annotated[int, Int2], "int2"),
        (Annotated[int | None, Int4()], "int4"),
        (Annotated[int, Int4] | None, "int4"),  # pyright: ignore[reportOperatorIssue]  # works at run time
        (Decimal, "numeric"),
        (Annotated[Decimal, Numeric(5)], "numeric(5,0)"),
        (dict, "jsonb"),
        (dict[str, list[int]], "jsonb"),
        (Annotated[list[dict[str, int]], Json], "jsonb"),
        (list[Annotated[int, Int2]], "int2[]"),
        (list[Annotated[Decimal, Numeric(5, 1)] | None], "numeric(5,1)[]"),
        (list[Mood], "enum Mood[]"),
        (bytes, "bytea"),
        (uuid.UUID, "uuid"),
        (Annotated[str, Last], "text"),
    ],
)
def test_an_annotation_decides_the_column_type(annotation: Any, kind: str) -> None:
    assert declaration_of(entity({"id": Annotated[int, Key], "value": annotation})).fields[0].kind.name == kind


@pytest.mark.parametrize(
    ("annotations", "rule"),
    [
        ({"name": str}, "Made: mark the primary key"),
        ({"id": Annotated[int, Key]}, "Made: has no fields besides its key"),
        ({"id": Annotated[int | None, Key], "v": int}, "Made.id: a key column cannot be None"),
        ({"id": Annotated[int, Key, Sum], "v": int}, "Made.id: a key column has no merge"),
        ({"id": Annotated[float, Key], "v": int}, "Made.id: float8 cannot be a key; use one of bool, bytea"),
        ({"id": Annotated[Decimal, Key], "v": int}, "Made.id: numeric cannot be a key"),
        ({"id": Annotated[Mood, Key], "v": int}, "Made.id: enum Mood cannot be a key"),
        ({"id": Annotated[int, Key], "v": Annotated[int, Sum, Max]}, "Made.v: has more than one merge: sum, max"),
        ({"id": Annotated[int, Key], "v": Annotated[float, Sum]}, "Made.v: Sum needs an int or a Decimal"),
        (
            {"id": Annotated[int, Key], "v": Annotated[str, Max]},
            "Made.v: max needs a number, a datetime or a date: .* collation",
        ),
        ({"id": Annotated[int, Key], "v": Annotated[bool, Min]}, "Made.v: min needs a number"),
        ({"id": Annotated[int, Key], "v": complex}, "Made.v: .*complex.* has no column type here"),
        ({"id": Annotated[int, Key], "v": int | str}, "Made.v: .* has no column type here"),
        ({"id": Annotated[int, Key], "v": list}, "Made.v: .* has no column type here"),
        ({"id": Annotated[int, Key], "v": dt.time}, "Made.v: .* has no column type here"),
        ({"id": Annotated[int, Key], "v": list[list[int]]}, "Made.v: an array holds scalars"),
        ({"id": Annotated[int, Key], "v": list[dict[str, int]]}, "Made.v: an array holds scalars"),
        ({"id": Annotated[int, Key], "versions": list[int]}, "Made.versions: is the column of versions"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(annotations: dict[str, Any], rule: str) -> None:
    with pytest.raises(DeclarationError, match=rf"^{rule}"):
        declaration_of(entity(annotations))


def test_an_enum_whose_values_are_not_labels_is_refused() -> None:
    class Number(enum.Enum):
        ONE = 1

    with pytest.raises(DeclarationError, match=r"Made.v: the values of Number must be str"):
        declaration_of(entity({"id": Annotated[int, Key], "v": Number}))


def test_validators_are_refused_because_a_patch_is_not_a_row() -> None:
    class Strict(Entity, table="strict", strategy=WriteBehind()):
        id: Annotated[int, Key]
        name: str

        @field_validator("name")
        @classmethod
        def check(cls, value: str) -> str:
            return value

    with pytest.raises(DeclarationError, match=r"^Strict: validators do not run on patches"):
        declaration_of(Strict)


def test_more_fields_than_the_mask_has_bits_are_refused() -> None:
    fields = {"id": Annotated[int, Key], **{f"f{n}": int for n in range(FIELDS_MAX)}}

    assert declaration_of(entity(fields)).fields[-1].bit < 2**63
    with pytest.raises(DeclarationError, match=r"^Made: has 63 fields; the limit is 62. Split it"):
        declaration_of(entity({**fields, "one_more": int}))


def test_only_fields_whose_order_matters_have_a_version() -> None:
    counters: dict[str, Any] = {
        "id": Annotated[int, Key],
        "hits": Annotated[int, Sum],
        "best": Annotated[int, Max],
        "name": str,
    }

    assert [c.name for c in declaration_of(entity(counters)).versioned] == ["name"]
    assert [c.name for c in declaration_of(entity(counters, deletes=True)).versioned] == [
        "hits",
        "best",
        "name",
    ]


def test_the_fingerprint_changes_with_everything_that_changes_a_record() -> None:
    base: dict[str, Any] = {"id": Annotated[int, Key], "a": int, "b": Annotated[int, Sum]}
    others: list[dict[str, Any]] = [
        {**base, "c": int},
        {"id": Annotated[int, Key], "b": Annotated[int, Sum], "a": int},
        {**base, "a": str},
        {**base, "a": Annotated[int, Int2]},
        {**base, "b": Annotated[int, Max]},
        {**base, "id": Annotated[str, Key]},
        {**base, "a": Annotated[int, Key]},
    ]

    prints = {declaration_of(entity(annotations)).fingerprint for annotations in [base, *others]}

    assert len(prints) == 1 + len(others)
    assert declaration_of(entity(base)).fingerprint in prints
    assert all(0 <= value < 2**31 for value in prints)


BAD_FIELDS: list[tuple[dict[str, Any], str, str]] = [
    ({"colour": SECRET}, "Player.colour", "is not a declared field (got str)"),
    ({"id": 2}, "Player.id", "is a key column: a write cannot change the key (got int)"),
    ({"name": 5}, "Player.name", "must be a str for a column of type text (got int)"),
    ({"name": SECRET.encode()}, "Player.name", "must be a str for a column of type text (got bytes)"),
    (
        {"name": f"{SECRET}\x00"},
        "Player.name",
        "must not contain NUL (U+0000), which Postgres cannot store in text (got str)",
    ),
    (
        {"name": f"{SECRET}\ud800"},
        "Player.name",
        "must not contain lone surrogates, which have no UTF-8 form (got str)",
    ),
    ({"name": SECRET * 2}, "Player.name", "String should have at most 10 characters (got str)"),
    ({"name": "S3CRET"}, "Player.name", "String should match pattern '^[a-z0-9]*$' (got str)"),
    ({"nick": "s"}, "Player.nick", "String should have at least 2 characters (got str)"),
    ({"name": None}, "Player.name", "must not be None (got NoneType)"),
    ({"score": None}, "Player.score", "must not be None: nothing to sum (got NoneType)"),
    ({"best": None}, "Player.best", "must not be None: nothing to max (got NoneType)"),
    ({"score": "5"}, "Player.score", "must be an int for a column of type int4 (got str)"),
    ({"score": True}, "Player.score", "must be an int for a column of type int4 (got bool)"),
    ({"score": 1.0}, "Player.score", "must be an int for a column of type int4 (got float)"),
    (
        {"score": 2**31},
        "Player.score",
        "must be between -2147483648 and 2147483647 for a column of type int4 (got int)",
    ),
    ({"level": -32769}, "Player.level", "must be between -32768 and 32767 for a column of type int2 (got int)"),
    ({"best": "1.5"}, "Player.best", "must be a float for a column of type double precision (got str)"),
    ({"best": 2**53 + 1}, "Player.best", "must be a float for a column of type double precision (got int)"),
    ({"best": float("nan")}, "Player.best", "must be finite: NaN and infinity have no place in a max (got float)"),
    ({"best": float("-inf")}, "Player.best", "must be finite: NaN and infinity have no place in a max (got float)"),
    (
        {"worst": Decimal("Infinity")},
        "Player.worst",
        "must be finite: NaN and infinity have no place in a min (got Decimal)",
    ),
    (
        {"money": Decimal("NaN")},
        "Player.money",
        "must be finite: NaN and infinity have no place in a sum (got Decimal)",
    ),
    ({"money": 1.5}, "Player.money", "must be a Decimal or an int for a column of type numeric (got float)"),
    ({"money": Decimal("1.005")}, "Player.money", "must have at most 2 decimal places for numeric(8, 2) (got Decimal)"),
    ({"money": 10**6}, "Player.money", "must be smaller than 1E+6 in magnitude for numeric(8, 2) (got int)"),
    ({"money": Decimal("sNaN")}, "Player.money", "must not be a signalling NaN (got Decimal)"),
    ({"money": Decimal("-Infinity")}, "Player.money", "must be finite for numeric(8, 2) (got Decimal)"),
    (
        {"worst": Decimal("1E+1001")},
        "Player.worst",
        "must have at most 1000 digits before and after the decimal point (got Decimal)",
    ),
    ({"seen": "2024-01-01"}, "Player.seen", "must be a datetime for a column of type timestamptz (got str)"),
    ({"seen": dt.date(2024, 1, 1)}, "Player.seen", "must be a datetime for a column of type timestamptz (got date)"),
    (
        {"seen": dt.datetime(2024, 1, 1)},  # noqa: DTZ001  # what the test is about
        "Player.seen",
        "must carry a time zone: a naive datetime would mean another instant in each session (got datetime)",
    ),
    (
        {"seen": dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=1)))},
        "Player.seen",
        "must lie between the years 1 and 9999 in UTC (got datetime)",
    ),
    ({"mood": SECRET}, "Player.mood", "must be one of glad, sad (got str)"),
    ({"mood": []}, "Player.mood", "must be one of glad, sad (got list)"),
    ({"tags": SECRET}, "Player.tags", "must be a list for an array column (got str)"),
    ({"tags": [SECRET, None]}, "Player.tags", "must not hold None: the element type does not allow it (got list)"),
    ({"tags": [SECRET, 5]}, "Player.tags", "must be a str for a column of type text (got list)"),
    ({"extra": {"a": {SECRET}}}, "Player.extra", "must be JSON for a column of type jsonb: TypeError (got dict)"),
    ({"extra": {"a": float("inf")}}, "Player.extra", "must be JSON for a column of type jsonb: ValueError (got dict)"),
    (
        {"extra": {"a": f"{SECRET}\x00"}},
        "Player.extra",
        "must not contain NUL (U+0000), which Postgres cannot store in jsonb (got dict)",
    ),
    (
        {"extra": {"a\ud800": 1}},
        "Player.extra",
        "must not contain lone surrogates, which have no UTF-8 form (got dict)",
    ),
    ({"active": 1}, "Player.active", "must be a bool (got int)"),
]


@pytest.mark.parametrize(
    ("patch", "place", "rule"), BAD_FIELDS, ids=[f"{place} {rule[:30]}" for _, place, rule in BAD_FIELDS]
)
def test_a_bad_field_is_refused_naming_entity_field_class_and_rule_but_not_the_value(
    patch: dict[str, Any], place: str, rule: str
) -> None:
    with pytest.raises(InvalidWrite) as caught:
        PLAYER.check_patch({"active": True, **patch})

    error = caught.value
    assert str(error) == f"{place}: {rule}"
    assert SECRET not in str(error)
    assert f"{error.entity}.{error.field}" == place
    assert f"{error.rule} (got {error.value_class})" == rule
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None  # a traceback would show the value


def test_an_empty_patch_is_refused() -> None:
    with pytest.raises(InvalidWrite, match=r"^Player: a write needs at least one field"):
        PLAYER.check_patch({})


def test_a_key_column_of_a_wide_key_in_a_patch_is_refused_as_one() -> None:
    with pytest.raises(InvalidWrite, match=r"^Shelf\.row: is a key column"):
        SHELF.check_patch({"row": 3})


def test_a_patch_is_checked_into_the_python_form() -> None:
    zone = dt.timezone(dt.timedelta(hours=5, minutes=30))
    patch = {
        "money": 5,
        "mood": "sad",
        "seen": dt.datetime(2024, 1, 1, 5, 30, tzinfo=zone),
        "tags": ("a",),
        "best": 3,
        "nick": None,
    }

    checked = {column.name: value for column, value in PLAYER.check_patch(patch)}

    assert checked == {
        "money": Decimal("5.00"),
        "mood": Mood.SAD,
        "seen": dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        "tags": ["a"],
        "best": 3.0,
        "nick": None,
    }
    assert str(checked["money"]) == "5.00"
    assert type(checked["best"]) is float


def test_a_key_can_be_given_as_a_value_a_tuple_or_a_mapping() -> None:
    day = dt.date(2024, 2, 29)

    assert PLAYER.check_key(7) == PLAYER.check_key((7,)) == PLAYER.check_key({"id": 7}) == (7,)
    assert SHELF.check_key(("a", day, 1)) == SHELF.check_key({"row": 1, "shop": "a", "day": day}) == ("a", day, 1)


@pytest.mark.parametrize(
    ("declaration", "key", "text"),
    [
        (PLAYER, SECRET, "Player.id: must be an int for a column of type int8 (got str)"),
        (PLAYER, True, "Player.id: must be an int for a column of type int8 (got bool)"),
        (PLAYER, 2**63, f"Player.id: must be between {-(2**63)} and {2**63 - 1} for a column of type int8 (got int)"),
        (PLAYER, None, "Player.id: must not be None (got NoneType)"),
        (PLAYER, {"key": 1}, "Player: the key must have exactly id (got dict)"),
        (SHELF, SECRET, "Shelf: the key has 3 columns: shop, day, row (got str)"),
        (SHELF, (SECRET, dt.date(2024, 1, 1)), "Shelf: the key has 3 columns: shop, day, row (got tuple)"),
        (SHELF, {"shop": SECRET}, "Shelf: the key must have exactly shop, day, row (got dict)"),
        (
            SHELF,
            (f"{SECRET}\x00", dt.date(2024, 1, 1), 1),
            "Shelf.shop: must not contain NUL (U+0000), which Postgres cannot store in text (got str)",
        ),
        (
            SHELF,
            (SECRET, dt.datetime(2024, 1, 1, tzinfo=dt.UTC), 1),
            "Shelf.day: must be a date (and not a datetime) for a column of type date (got datetime)",
        ),
    ],
)
def test_a_bad_key_is_refused_naming_column_class_and_rule_but_not_the_value(
    declaration: Declaration, key: Any, text: str
) -> None:
    with pytest.raises(InvalidWrite) as caught:
        declaration.check_key(key)

    assert str(caught.value) == text


def test_distinct_keys_have_distinct_texts_whatever_they_hold() -> None:
    day = dt.date(2024, 1, 1)
    shops = ["a", "a|b", "a%7Cb", "a%257Cb", "", "{a}", "a{", "%", "|", "é"]

    texts = [SHELF.key_text(SHELF.check_key((shop, day, 1))) for shop in shops]

    assert len(set(texts)) == len(shops)
    assert all(text.count("|") == 2 and "{" not in text and "}" not in text for text in texts)
    assert [SHELF.parse_key(text)[0] for text in texts] == shops
    assert SHELF.key_texts([shops, [day] * len(shops), [1] * len(shops)]) == texts


@pytest.mark.parametrize("text", ["a|2024-01-01", "a|2024-01-01|1|2", "a|yesterday|1", "a|2024-01-01|one"])
def test_a_text_that_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        SHELF.parse_key(text)

"""An entity with every type of column, its table, and strategies for the values of each column."""

from __future__ import annotations

import datetime as dt
import enum
import math
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from hypothesis import strategies as st

from writebehind.shared.declaration import Declaration, declaration_of
from writebehind.shared.entity import Entity, Int2, Int4, Json, Key, Numeric, WriteBehind


class Mood(enum.Enum):
    """Labels that an array literal or a statement could stumble over."""

    GLAD = "glad"
    QUOTED = 'so "so", \\ {ok} %'
    NULL = "NULL"


class Everything(Entity, table="everything", strategy=WriteBehind()):
    """Every column may be NULL: None is a value of each."""

    id: Annotated[int, Key]
    small: Annotated[int, Int2] | None = None
    medium: Annotated[int, Int4] | None = None
    large: int | None = None
    price: Annotated[Decimal, Numeric(40, 4)] | None = None
    amount: Decimal | None = None
    ratio: float | None = None
    title: str | None = None
    nick: str | None = None
    folded: str | None = None
    active: bool | None = None
    moment: dt.datetime | None = None
    day: dt.date | None = None
    ident: uuid.UUID | None = None
    blob: bytes | None = None
    doc: dict[str, Any] | None = None
    deep: Annotated[list[Any], Json] | None = None
    mood: Mood | None = None
    smalls: list[Annotated[int, Int2]] | None = None
    larges: list[int | None] | None = None
    prices: list[Annotated[Decimal, Numeric(40, 4)]] | None = None
    amounts: list[Decimal | None] | None = None
    ratios: list[float | None] | None = None
    titles: list[str | None] | None = None
    nicks: list[str] | None = None
    actives: list[bool | None] | None = None
    moments: list[dt.datetime | None] | None = None
    days: list[dt.date | None] | None = None
    idents: list[uuid.UUID | None] | None = None
    blobs: list[bytes | None] | None = None
    moods: list[Mood | None] | None = None


DECLARATION: Declaration = declaration_of(Everything)

DDL = """
CREATE EXTENSION IF NOT EXISTS citext SCHEMA public;
CREATE TYPE mood AS ENUM ('glad', 'so "so", \\ {ok} %', 'NULL');
CREATE TABLE everything (
    id bigint PRIMARY KEY, small smallint, medium integer, large bigint, price numeric(40, 4), amount numeric,
    ratio double precision, title text, nick varchar(30), folded public.citext, active boolean, moment timestamptz,
    day date, ident uuid, blob bytea, doc jsonb, deep jsonb, mood mood, smalls smallint[], larges bigint[],
    prices numeric(40, 4)[], amounts numeric[], ratios double precision[], titles text[], nicks varchar(30)[],
    actives boolean[], moments timestamptz[], days date[], idents uuid[], blobs bytea[], moods mood[], versions bigint[]
)
"""


def _ints(bits: int) -> st.SearchStrategy[int]:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return st.integers(low, high) | st.sampled_from([low, high, 0, min(high, 2**53 + 1)])


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30) | st.sampled_from(
    ["", "NULL", "null", '"', "\\", "{}", "a,b", "%s {0}", " \t\n", "é", "日本語", "🦀", "\U0010ffff", "|", "%7C"]
)
PRICE = st.decimals(-(10**36) + 1, 10**36 - 1, places=4) | st.just(Decimal("NaN"))
AMOUNT = (
    st.decimals(allow_nan=False, allow_infinity=False).filter(lambda d: abs(d.adjusted()) < 900)
    | st.sampled_from(["NaN", "Infinity", "-Infinity", "1E+999", "-1E-999", "0.10", "-0.0"]).map(Decimal)
    | st.text("0123456789", min_size=1, max_size=90).map(Decimal)
)
MOMENT = st.datetimes(
    dt.datetime(1, 1, 3),  # noqa: DTZ001  # the zone is drawn apart
    dt.datetime(9999, 12, 29),  # noqa: DTZ001
    timezones=st.timezones() | st.sampled_from([dt.UTC]),
    allow_imaginary=False,
) | st.sampled_from(
    [
        dt.datetime.min.replace(tzinfo=dt.UTC),
        dt.datetime.max.replace(tzinfo=dt.UTC),
        dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
        dt.datetime(1900, 1, 1, 0, 0, 0, 1, tzinfo=dt.UTC),
    ]
)
# jsonb keeps a number as numeric, which knows no negative zero; from 1e16 on Python writes a float with an exponent,
# and gets an int back.
_JSON_FLOAT = st.floats(-1e15, 1e15).map(lambda value: value + 0.0)
_JSON_SCALAR = st.none() | st.booleans() | st.integers() | _JSON_FLOAT | TEXT
_JSON = st.recursive(
    _JSON_SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
_SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "small": _ints(16),
    "medium": _ints(32),
    "large": _ints(64),
    "price": PRICE,
    "amount": AMOUNT,
    "ratio": st.floats(),
    "title": TEXT,
    "nick": TEXT,
    "folded": TEXT,
    "active": st.booleans(),
    "moment": MOMENT,
    "day": st.dates() | st.sampled_from([dt.date.min, dt.date.max]),
    "ident": st.uuids(),
    "blob": st.binary(max_size=40),
    "mood": st.sampled_from(Mood),
}
_ARRAYS = {
    f"{name}s": st.lists(values, max_size=4) for name, values in _SCALARS.items() if name not in ("medium", "folded")
}
_WITHOUT_NULL = {"smalls", "prices", "nicks"}

VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    **_SCALARS,
    "doc": st.dictionaries(TEXT, _JSON, max_size=4),
    "deep": st.lists(_JSON, max_size=4),
    **{
        name: values if name in _WITHOUT_NULL else st.lists(st.none() | _SCALARS[name[:-1]], max_size=4)
        for name, values in _ARRAYS.items()
    },
}


def patches() -> st.SearchStrategy[dict[str, Any]]:
    """Patches of `Everything`, as a caller gives them: at least one field, each of them possibly None."""
    return st.fixed_dictionaries({}, optional={name: st.none() | values for name, values in VALUES.items()}).filter(
        bool
    )


def same(a: Any, b: Any) -> bool:
    """Equal, of one type, NaN equal to NaN, and the signs of a float's two zeros told apart."""
    if type(a) is not type(b):
        return False
    match a:
        case list():
            return len(a) == len(b) and all(map(same, a, b))
        case float():
            return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
        case Decimal():
            return bool(a == b) or (a.is_nan() and b.is_nan())
        case dt.datetime():
            return bool(a == b) and a.utcoffset() == b.utcoffset()
        case _:
            return bool(a == b)

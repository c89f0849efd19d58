"""Column kinds: what `check` makes of a value, and the cache and wire forms that others read."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from decimal import Decimal
from typing import Any

import pytest

from writebehind.shared import kinds
from writebehind.shared.kinds import Kind, Order


class Mood(enum.Enum):
    GLAD = "glad"
    NULL = "NULL"


class Shout(enum.StrEnum):
    HEY = "hey"


class Frozen(dt.datetime):
    """A datetime of another library."""


MOOD = kinds.enumeration(Mood)


def texts(kind: Kind) -> Kind:
    return kinds.array(kind, nullable_elements=True)


@pytest.mark.parametrize(
    ("kind", "value", "cached"),
    [
        (kinds.integer("int8"), 2**63 - 1, "9223372036854775807"),
        (kinds.integer("int8"), -(2**63), "-9223372036854775808"),
        (kinds.numeric(10, 2), Decimal("1.50"), "1.50"),
        (kinds.numeric(), Decimal("1E+5"), "100000"),
        (kinds.numeric(), Decimal("1E-7"), "0.0000001"),
        (kinds.numeric(), Decimal("NaN"), "NaN"),
        (kinds.FLOAT, 0.1, "0.1"),
        (kinds.FLOAT, float("-inf"), "-inf"),
        (kinds.TEXT, "", ""),
        (kinds.TEXT, "é\n", "é\n"),
        (kinds.BOOL, True, "t"),
        (kinds.BOOL, False, "f"),
        (kinds.TIMESTAMP, dt.datetime(987, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "0987-01-02T03:04:05.000000+00:00"),
        (kinds.DATE, dt.date(987, 1, 2), "0987-01-02"),
        (kinds.UUID, uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (kinds.BYTES, b"\x00\xff", "\\x00ff"),
        (kinds.JSON, {"é": [1, None]}, '{"é":[1,null]}'),
        (MOOD, Mood.NULL, "NULL"),
        (texts(kinds.TEXT), ["a", None, "NULL", '"'], '["a",null,"NULL","\\""]'),
    ],
)
def test_the_cache_form_is_text_that_reads_back(kind: Kind, value: Any, cached: str) -> None:
    assert kind.to_cache(kind.check(value)) == cached
    read = kind.from_cache(cached)
    assert (read, type(read)) == (value, type(value)) or read.is_nan()


@pytest.mark.parametrize(
    ("kind", "value", "literal"),
    [
        (texts(kinds.TEXT), [], "{}"),
        (texts(kinds.TEXT), ["", "NULL", None], '{"","NULL",NULL}'),
        (texts(kinds.TEXT), ['a"b', "a\\b", "a,b", "{}"], '{"a\\"b","a\\\\b","a,b","{}"}'),
        (texts(kinds.BYTES), [b"\x01"], '{"\\\\x01"}'),
        (texts(kinds.integer("int2")), [1, None], '{"1",NULL}'),
        (texts(MOOD), [Mood.NULL, None], '{"NULL",NULL}'),
    ],
)
def test_an_array_travels_as_postgres_own_literal(kind: Kind, value: list[Any], literal: str) -> None:
    assert kind.to_wire is not None
    assert kind.to_wire(kind.check(value)) == literal


def test_a_decimal_is_checked_exactly_whatever_the_callers_decimal_context() -> None:
    kind = kinds.numeric(40, 4)
    most = Decimal("9" * 36 + "." + "9" * 4)

    with decimal.localcontext(decimal.Context(prec=3, traps=[decimal.Inexact, decimal.Rounded])):
        assert kinds.numeric(40, 4).check(most) == most
        assert kind.check(most.copy_negate()) == most.copy_negate()
        with pytest.raises(ValueError, match=r"must be smaller than"):
            kind.check(Decimal((0, (1,), 36)))
    assert (kind.low, kind.high) == (most.copy_negate(), most)


def test_a_decimal_gets_the_columns_scale() -> None:
    assert str(kinds.numeric(10, 2).check(Decimal("1.5"))) == "1.50"
    assert str(kinds.numeric(10, 2).check(Decimal("1.500"))) == "1.50"
    assert str(kinds.numeric(3, 0).check(999)) == "999"
    assert kinds.numeric(1000, 1000).check(Decimal("0." + "1" * 1000)) == Decimal("0." + "1" * 1000)


@pytest.mark.parametrize("nan", ["NaN", "-NaN", "NaN123"])
def test_there_is_one_nan(nan: str) -> None:
    assert str(kinds.numeric().check(Decimal(nan))) == str(kinds.numeric(5, 2).check(Decimal(nan))) == "NaN"


def test_values_of_subclasses_become_plain_values() -> None:
    moment = kinds.TIMESTAMP.check(Frozen(2024, 1, 2, 3, 4, 5, 6, tzinfo=dt.timezone(dt.timedelta(hours=2))))

    assert type(moment) is dt.datetime
    assert moment == dt.datetime(2024, 1, 2, 1, 4, 5, 6, tzinfo=dt.UTC)
    assert moment.utcoffset() == dt.timedelta(0)
    assert type(kinds.TEXT.check(Shout.HEY)) is str
    assert type(kinds.BYTES.check(bytearray(b"a"))) is bytes
    assert type(kinds.BYTES.check(memoryview(b"a"))) is bytes


def test_an_enum_takes_members_and_labels() -> None:
    assert MOOD.check(Mood.GLAD) is MOOD.check("glad") is Mood.GLAD
    assert MOOD.labels == frozenset({"glad", "NULL"})
    with pytest.raises(ValueError, match=r"^must be one of NULL, glad$"):
        MOOD.check("GLAD")


@pytest.mark.parametrize("value", [{"a": "\x00"}, {"\x00": 1}, ["\\\x00"], {"a": "\\\\\x00"}])
def test_nul_in_json_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"must not contain NUL"):
        kinds.JSON.check(value)


@pytest.mark.parametrize("value", ["\\u0000", "\\\\u0000", {"u0000": "\\"}, "\\x00"])
def test_text_that_only_looks_like_an_escaped_nul_is_json(value: Any) -> None:
    assert kinds.JSON.check(value) == value


def test_json_too_deep_to_write_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(ValueError, match=r"^must be JSON for a column of type jsonb: RecursionError$"):
        kinds.JSON.check(deep)


def test_only_kinds_that_all_stores_order_alike_have_an_order() -> None:
    told = {
        kind.name: kind.order
        for kind in (kinds.FLOAT, kinds.TEXT, kinds.BOOL, kinds.TIMESTAMP, kinds.DATE, kinds.UUID, kinds.JSON)
    }

    assert told == {
        "float8": Order.FLOAT,
        "text": Order.NONE,
        "bool": Order.NONE,
        "timestamptz": Order.TEXT,
        "date": Order.TEXT,
        "uuid": Order.NONE,
        "jsonb": Order.NONE,
    }
    assert kinds.integer("int2").order is kinds.numeric().order is Order.NUMBER
    assert texts(kinds.DATE).order is Order.NONE


@pytest.mark.parametrize(
    ("value", "finite"),
    [
        (1, True),
        (0.5, True),
        (Decimal(1), True),
        ("inf", True),
        (float("inf"), False),
        (Decimal("NaN"), False),
        (Decimal("Infinity"), False),
    ],
)
def test_only_finite_numbers_combine(value: Any, finite: bool) -> None:
    assert kinds.is_finite(value) is finite

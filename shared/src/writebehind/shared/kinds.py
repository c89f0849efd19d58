"""Column kinds: how a value of each Postgres type is checked, and written to the cache, to Kafka and to a statement.

One value has four forms. *Python*: what the caller gives and gets. *Cache*: text in a Redis hash field, chosen so
that the
scripts can add and compare it. *Wire*: what the record carries (msgspec encodes it). *Parameter*: what the
statement's `unnest` arrays hold; it is the wire form, so the flusher never converts a value.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

import msgspec

# NULL in the cache. No text can hold NUL in Postgres, and every other kind's cache form is printable.
CACHE_NULL = "\x00"

_json = msgspec.json.Encoder().encode

INT_BITS = {"int2": 16, "int4": 32, "int8": 64}
INT8_MIN, INT8_MAX = -(2**63), 2**63 - 1


class Order(enum.StrEnum):
    """How two cache forms of a kind compare, told to the scripts.

    NONE: the kind has no order that all three stores share.
    """

    NONE = ""
    NUMBER = "n"
    FLOAT = "f"
    TEXT = "s"


@dataclass(frozen=True, slots=True)
class Kind:
    """One column type.

    `check` turns what the caller gave into the Python form or raises ValueError with the broken rule.
    `pg_types` are the catalog names (`format_type` without modifier) the column may have; `param_type` is the
    element type
    of the statement's array; `cast` says that the parameter is text that must be cast to the column's own type, and
    `read_as` what a read casts the column to, because psycopg does not know the type's name (enums, citext).
    """

    name: str
    pg_types: frozenset[str]
    param_type: str
    check: Callable[[Any], Any]
    to_cache: Callable[[Any], str]
    from_cache: Callable[[str], Any]
    wire_type: Any
    to_wire: Callable[[Any], Any] | None = None  # None: the Python form is the wire form
    from_db: Callable[[Any], Any] | None = None  # None: psycopg already loads the Python form
    cast: bool = False
    read_as: str | None = None
    order: Order = Order.NONE
    low: Decimal | None = None  # the range a sum must stay in, where the type has one
    high: Decimal | None = None
    labels: frozenset[str] | None = None  # of an enum, or of an array's elements


def integer(pg: str) -> Kind:
    """int2, int4 or int8: a Python int (not a bool) within the column's range."""
    high = 2 ** (INT_BITS[pg] - 1) - 1
    low = -high - 1

    def check(value: Any) -> int:
        if type(value) is not int:
            raise ValueError(f"must be an int for a column of type {pg}")
        if not low <= value <= high:
            raise ValueError(f"must be between {low} and {high} for a column of type {pg}")
        return value

    names = {"int2": "smallint", "int4": "integer", "int8": "bigint"}
    return Kind(
        name=pg,
        pg_types=frozenset({names[pg]}),
        param_type="int8",
        check=check,
        to_cache=str,
        from_cache=int,
        wire_type=int,
        order=Order.NUMBER,
        low=Decimal(low),
        high=Decimal(high),
    )


def numeric(precision: int | None = None, scale: int = 0) -> Kind:
    """numeric, or numeric(precision, scale): a Decimal or int that the column holds without rounding."""
    # Built from digits, and compared by copies: arithmetic would round to the caller's decimal context.
    limit = None if precision is None else Decimal((0, (1,), precision - scale))
    step = None if precision is None else Decimal((0, (1,), -scale))
    nines = (9,) * (precision or 0)
    context = decimal.Context(prec=max(precision or 0, 2000))

    def check(value: Any) -> Decimal:
        if type(value) is int:
            value = Decimal(value)
        if type(value) is not Decimal:
            raise ValueError("must be a Decimal or an int for a column of type numeric")
        if value.is_snan():
            raise ValueError("must not be a signalling NaN")
        if value.is_nan():
            return Decimal("NaN")  # Postgres knows only one, without a sign or a payload
        if limit is None or step is None:
            exponent = value.as_tuple().exponent
            if isinstance(exponent, int) and not (-1000 <= exponent <= 1000 and value.adjusted() <= 1000):
                raise ValueError("must have at most 1000 digits before and after the decimal point")
            return value
        if value.is_infinite():
            raise ValueError(f"must be finite for numeric({precision}, {scale})")
        if value.copy_abs() >= limit:
            raise ValueError(f"must be smaller than {limit} in magnitude for numeric({precision}, {scale})")
        fitted = value.quantize(step, context=context)
        if fitted != value:
            raise ValueError(f"must have at most {scale} decimal places for numeric({precision}, {scale})")
        return fitted

    return Kind(
        name="numeric" if precision is None else f"numeric({precision},{scale})",
        pg_types=frozenset({"numeric"}),
        param_type="numeric",
        check=check,
        to_cache=lambda value: format(value, "f"),
        from_cache=Decimal,
        wire_type=Decimal,
        order=Order.NUMBER,
        low=None if precision is None else Decimal((1, nines, -scale)),
        high=None if precision is None else Decimal((0, nines, -scale)),
    )


def _check_float(value: Any) -> float:
    if type(value) is int and abs(value) <= 2**53:
        return float(value)
    if type(value) is not float:
        raise ValueError("must be a float for a column of type double precision")
    return value


def _check_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a str for a column of type text")
    text = value if type(value) is str else str.__str__(value)
    if "\x00" in text:
        raise ValueError("must not contain NUL (U+0000), which Postgres cannot store in text")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("must not contain lone surrogates, which have no UTF-8 form") from None
    return text


def _check_bool(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("must be a bool")
    return value


def _check_timestamp(value: Any) -> dt.datetime:
    if type(value) is dt.datetime and value.tzinfo is dt.UTC:  # by far the most frequent
        return value
    if not isinstance(value, dt.datetime):
        raise ValueError("must be a datetime for a column of type timestamptz")
    if value.utcoffset() is None:
        raise ValueError("must carry a time zone: a naive datetime would mean another instant in each session")
    try:
        utc = value.astimezone(dt.UTC)
    except OverflowError:
        raise ValueError("must lie between the years 1 and 9999 in UTC") from None
    # A subclass (pandas, pendulum, freezegun) could not be encoded.
    return utc if type(utc) is dt.datetime else dt.datetime.combine(utc.date(), utc.timetz())


def _timestamp_text(value: dt.datetime) -> str:
    """Fixed width, always UTC, always six decimals: the scripts compare it as text.

    As `isoformat` gives it, which takes four times as long. msgspec leaves decimals out that are all zero.
    """
    if value.tzinfo is not dt.UTC:
        value = value.astimezone(dt.UTC)
    text = _json(value).decode()[1:-2]  # without its quotes and its Z
    return f"{text}+00:00" if value.microsecond else f"{text}.000000+00:00"


def _check_date(value: Any) -> dt.date:
    if type(value) is not dt.date:
        raise ValueError("must be a date (and not a datetime) for a column of type date")
    return value


def _check_uuid(value: Any) -> uuid.UUID:
    if not isinstance(value, uuid.UUID):
        raise ValueError("must be a UUID")
    return value


def _check_bytes(value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise ValueError("must be bytes for a column of type bytea")
    return bytes(value)


FLOAT = Kind(
    "float8",
    frozenset({"double precision"}),
    "float8",
    _check_float,
    to_cache=repr,
    from_cache=float,
    wire_type=float,
    order=Order.FLOAT,
)
TEXT = Kind(
    "text",
    frozenset({"text", "character varying", "citext"}),  # not character(n), which pads what it is given with blanks
    "text",
    _check_text,
    to_cache=str,
    from_cache=str,
    wire_type=str,
    read_as="text",
)
BOOL = Kind(
    "bool",
    frozenset({"boolean"}),
    "bool",
    _check_bool,
    to_cache=lambda value: "t" if value else "f",
    from_cache=lambda text: text == "t",
    wire_type=bool,
)
TIMESTAMP = Kind(
    "timestamptz",
    frozenset({"timestamp with time zone"}),
    "timestamptz",
    _check_timestamp,
    to_cache=_timestamp_text,
    from_cache=dt.datetime.fromisoformat,
    wire_type=Annotated[dt.datetime, msgspec.Meta(tz=True)],
    from_db=lambda value: value.astimezone(dt.UTC),
    order=Order.TEXT,
)
DATE = Kind(
    "date",
    frozenset({"date"}),
    "date",
    _check_date,
    to_cache=dt.date.isoformat,
    from_cache=dt.date.fromisoformat,
    wire_type=dt.date,
    order=Order.TEXT,
)
UUID = Kind(
    "uuid",
    frozenset({"uuid"}),
    "uuid",
    _check_uuid,
    to_cache=str,
    from_cache=uuid.UUID,
    wire_type=uuid.UUID,
)
BYTES = Kind(
    "bytea",
    frozenset({"bytea"}),
    "bytea",
    _check_bytes,
    to_cache=lambda value: "\\x" + value.hex(),
    from_cache=lambda text: bytes.fromhex(text[2:]),
    wire_type=bytes,
)


def _check_json(value: Any) -> Any:
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain lone surrogates, which have no UTF-8 form") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"must be JSON for a column of type jsonb: {type(error).__name__}") from None
    # ensure_ascii=False leaves U+0000 escaped; a real backslash before "u0000" is itself escaped as two.
    if "\\u0000" in text.replace("\\\\", ""):
        raise ValueError("must not contain NUL (U+0000), which Postgres cannot store in jsonb")
    return value


def _json_text(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))


JSON = Kind(
    "jsonb",
    frozenset({"jsonb"}),
    "text",
    _check_json,
    to_cache=_json_text,
    from_cache=json.loads,
    wire_type=str,
    to_wire=_json_text,
    cast=True,
)


def enumeration(members: type[enum.Enum]) -> Kind:
    """A Postgres enum whose labels are the values of a Python enum of strings."""
    by_value = {member.value: member for member in members}

    def check(value: Any) -> enum.Enum:
        if isinstance(value, members):
            return value
        if isinstance(value, str) and value in by_value:
            return by_value[value]
        raise ValueError(f"must be one of {', '.join(sorted(map(str, by_value)))}")

    return Kind(
        f"enum {members.__name__}",
        frozenset(),  # the type's own name: the catalog's labels are compared instead
        "text",
        check,
        to_cache=lambda value: str(value.value),
        from_cache=lambda text: by_value[text],
        wire_type=str,
        to_wire=lambda value: str(value.value),
        from_db=lambda value: by_value[value],
        cast=True,
        read_as="text",
        labels=frozenset(by_value),
    )


def array(element: Kind, *, nullable_elements: bool) -> Kind:
    """A one-dimensional array of scalars.

    Its wire form is Postgres' own array literal: `unnest` flattens nested arrays.
    """

    def check(value: Any) -> list[Any]:
        if not isinstance(value, list | tuple):
            raise ValueError("must be a list for an array column")
        checked: list[Any] = []
        for item in value:
            if item is None and not nullable_elements:
                raise ValueError("must not hold None: the element type does not allow it")
            checked.append(None if item is None else element.check(item))
        return checked

    def literal(value: list[Any]) -> str:
        return "{" + ",".join(_quoted(element, item) for item in value) + "}"

    def to_cache(value: list[Any]) -> str:
        return _json_text([None if item is None else element.to_cache(item) for item in value])

    def from_cache(text: str) -> list[Any]:
        return [None if item is None else element.from_cache(item) for item in json.loads(text)]

    def from_db(value: list[Any]) -> list[Any]:
        load = element.from_db
        return value if load is None else [None if item is None else load(item) for item in value]

    return Kind(
        f"{element.name}[]",
        frozenset(f"{name}[]" for name in element.pg_types),
        "text",
        check,
        to_cache=to_cache,
        from_cache=from_cache,
        wire_type=str,
        to_wire=literal,
        from_db=from_db,
        cast=True,
        read_as=element.read_as and f"{element.read_as}[]",
        labels=element.labels,
    )


def _quoted(element: Kind, item: Any) -> str:
    if item is None:
        return "NULL"
    text = element.to_cache(item)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def is_finite(value: Any) -> bool:
    """Whether a value can be part of a sum, a maximum or a minimum: neither NaN nor infinite."""
    return value.is_finite() if type(value) is Decimal else type(value) is not float or math.isfinite(value)

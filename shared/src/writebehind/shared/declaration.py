"""A declaration, compiled: an entity's class turned into columns that every part works from."""

from __future__ import annotations

import datetime as dt
import enum
import functools
import types
import typing
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from . import kinds
from .entity import Entity, Int2, Int4, Json, Key, Last, Max, Merge, Min, Numeric, Strategy, Sum
from .errors import ConfigurationError, DeclarationError, InvalidWrite
from .kinds import Kind, Order
from .naming import escape_part, join_key, unescape_part
from .strategy import Direct, WriteBehind, WriteThrough

_MERGES: dict[Any, Merge] = {Last: Merge.LAST, Sum: Merge.SUM, Max: Merge.MAX, Min: Merge.MIN}
_MARKERS = (Key, Last, Sum, Max, Min, Int2, Int4, Json, Numeric)
_PLAIN: dict[Any, Kind] = {
    float: kinds.FLOAT,
    str: kinds.TEXT,
    bool: kinds.BOOL,
    dt.datetime: kinds.TIMESTAMP,
    dt.date: kinds.DATE,
    uuid.UUID: kinds.UUID,
    bytes: kinds.BYTES,
    dict: kinds.JSON,
}
_KEY_KINDS = frozenset({"int2", "int4", "int8", "text", "bool", "timestamptz", "date", "uuid", "bytea"})
FIELDS_MAX = 62  # one bit each in the record's mask, which must stay an int64


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an entity. `position` counts keys and fields apart; `bit` is a field's place in the record's mask.

    `check` turns what a caller gave, unless it is None, into the Python form, or raises ValueError with the rule:
    the kind's, the merge's, or one that the annotation adds.
    """

    name: str
    kind: Kind
    nullable: bool
    merge: Merge
    position: int
    default: Any
    check: Callable[[Any], Any]

    @property
    def bit(self) -> int:
        return 1 << self.position

    @property
    def takes_none(self) -> bool:
        """Whether None is a value of the field: there is nothing to add to or to compare with."""
        return self.nullable and self.merge is Merge.LAST

    @property
    def wire_type(self) -> Any:
        return self.kind.wire_type

    def loaded(self, value: Any) -> Any:
        """The Python form of what psycopg loaded."""
        return value if value is None or self.kind.from_db is None else self.kind.from_db(value)


@dataclass(frozen=True, slots=True)
class VersionColumn:
    """The column in which a row keeps its version, or those of its fields. `type_name` as the catalog has it."""

    name: str
    type_name: Literal["bigint", "bigint[]"]


@dataclass(frozen=True)
class Declaration:
    """Everything the producer, the flusher and the audit need to know of one entity.

    `versioned` are the fields of a write-behind entity that have a slot in the row's `bigint[]` of versions: the `Last`
    fields, and every field when deletes are allowed (a late delete must know which fields are newer than itself).
    """

    cls: type[Entity]
    name: str
    table: str
    schema: str | None
    strategy: Strategy
    keys: tuple[Column, ...]
    fields: tuple[Column, ...]
    by_name: Mapping[str, Column] = field(repr=False)

    @functools.cached_property
    def versioned(self) -> tuple[Column, ...]:
        strategy = self.strategy
        if not isinstance(strategy, WriteBehind):
            return ()
        return tuple(c for c in self.fields if strategy.deletes or c.merge is Merge.LAST)

    @functools.cached_property
    def version_column(self) -> VersionColumn | None:
        """Where the strategy keeps versions in the table; None when it needs none there."""
        match self.strategy:
            case WriteThrough(version_column=name):
                return VersionColumn(name, "bigint")
            case WriteBehind(versions_column=name) if self.versioned:
                return VersionColumn(name, "bigint[]")
            case _:
                return None

    @functools.cached_property
    def write_behind(self) -> WriteBehind:
        """The strategy, where only write-behind makes sense: records, folds, the flusher. Raises ConfigurationError."""
        if isinstance(self.strategy, WriteBehind):
            return self.strategy
        raise self._not("write-behind")

    @functools.cached_property
    def direct(self) -> Direct:
        """The strategy, where the caller writes the row itself. Raises ConfigurationError."""
        if isinstance(self.strategy, Direct):
            return self.strategy
        raise self._not("cache-aside or write-through")

    def _not(self, wanted: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.cls.__name__} is declared {type(self.strategy).__name__}; this needs a {wanted} entity"
        )

    @functools.cached_property
    def sums(self) -> tuple[Column, ...]:
        return tuple(c for c in self.fields if c.merge is Merge.SUM)

    @functools.cached_property
    def combining(self) -> tuple[Column, ...]:
        """The fields whose writes combine instead of replacing one another."""
        return tuple(c for c in self.fields if c.merge is not Merge.LAST)

    @functools.cached_property
    def fingerprint(self) -> int:
        """Changes whenever records of the old and the new declaration cannot be read as one another (31 bits)."""
        parts = [self.name, *(f"{c.name}:{c.kind.name}" for c in self.keys), "/"]
        parts += [f"{c.name}:{c.kind.name}:{c.merge}" for c in self.fields]
        return zlib.crc32(";".join(parts).encode()) & 0x7FFFFFFF

    @functools.cached_property
    def key_text(self) -> Callable[[Sequence[Any]], str]:
        """A function from the wire form of a key (one value per key column) to its text."""
        parts = [_key_part(c.kind) for c in self.keys]
        if len(parts) == 1:
            only = parts[0]
            return lambda key: only(key[0])
        return lambda key: join_key([part(value) for part, value in zip(parts, key, strict=True)])

    def key_texts(self, columns: Sequence[Sequence[Any]]) -> list[str]:
        """The texts of many keys, given as one column per key column."""
        if len(columns) == 1:
            return list(map(_key_part(self.keys[0].kind), columns[0]))
        return list(map(self.key_text, zip(*columns, strict=True)))

    def parse_key(self, text: str) -> tuple[Any, ...]:
        """The key (in wire form) whose text this is. Raises ValueError when it is not a key of this entity."""
        parts = text.split("|")
        if len(parts) != len(self.keys):
            raise ValueError(f"a key of {self.name} has {len(self.keys)} parts")
        return tuple([c.kind.from_cache(unescape_part(part)) for c, part in zip(self.keys, parts, strict=True)])

    def check_key(self, key: Any) -> tuple[Any, ...]:
        """The wire form of a caller's key: a value, or a tuple or mapping for a composite key. Raises InvalidWrite."""
        if type(key) in (int, str) and len(self.keys) == 1:  # by far the most frequent
            return (self._wire(self.keys[0], key),)
        if isinstance(key, Mapping):
            if set(key) != {c.name for c in self.keys}:
                raise self.invalid(None, key, f"the key must have exactly {', '.join(c.name for c in self.keys)}")
            values: Sequence[Any] = [key[c.name] for c in self.keys]
        elif len(self.keys) == 1:
            values = key if type(key) is tuple and len(key) == 1 else (key,)
        else:
            values = key if isinstance(key, tuple | list) else (key,)
        if len(values) != len(self.keys):
            raise self.invalid(
                None, key, f"the key has {len(self.keys)} columns: {', '.join(c.name for c in self.keys)}"
            )
        return tuple([self._wire(c, value) for c, value in zip(self.keys, values, strict=True)])

    def check_patch(self, patch: Mapping[str, Any]) -> list[tuple[Column, Any]]:
        """The fields of a patch in Python form. Raises InvalidWrite naming the field and the rule."""
        return [
            (column, self._check(column, value))
            for column, value in zip(self.fields_of(patch), patch.values(), strict=True)
        ]

    def fields_of(self, patch: Mapping[str, Any]) -> list[Column]:
        """The columns that a patch writes, in its order. Raises InvalidWrite."""
        if not patch:
            raise self.invalid(None, patch, "a write needs at least one field")
        found: list[Column] = []
        for name, value in patch.items():
            column = self.by_name.get(name)
            if column is None:
                raise self.invalid(name, value, "is not a declared field")
            if column.position >= len(self.fields) or column is not self.fields[column.position]:
                raise self.invalid(name, value, "is a key column: a write cannot change the key")
            found.append(column)
        return found

    def none_refused(self, column: Column) -> InvalidWrite:
        """What a None in a field raises that does not take it."""
        rule = "must not be None" if column.merge is Merge.LAST else f"must not be None: nothing to {column.merge}"
        return self.invalid(column.name, None, rule)

    def invalid(self, field_name: str | None, value: Any, rule: str) -> InvalidWrite:
        """The error of a write that breaks a rule. It names the value's class, never the value."""
        return InvalidWrite(self.cls.__name__, field_name, type(value).__name__, rule)

    def _wire(self, column: Column, value: Any) -> Any:
        checked = self._check(column, value)
        return checked if column.kind.to_wire is None else column.kind.to_wire(checked)

    def _check(self, column: Column, value: Any) -> Any:
        if value is None:
            if not column.takes_none:
                raise self.none_refused(column)
            return None
        try:
            return column.check(value)
        except ValueError as error:
            raise self.invalid(column.name, value, str(error)) from None


def _key_part(kind: Kind) -> Callable[[Any], str]:
    if kind.name.startswith("int"):
        return str
    if kind.name == "text":
        return escape_part
    return kind.to_cache


@functools.cache
def declaration_of(cls: type[Entity]) -> Declaration:
    """Compile an entity's class. Raises DeclarationError."""
    if not hasattr(cls, "__place__"):
        raise DeclarationError(f"{cls.__name__} is an abstract base, not an entity")
    if not cls.__pydantic_complete__:
        cls.model_rebuild()
    if cls.__pydantic_decorators__.field_validators or cls.__pydantic_decorators__.model_validators:
        raise DeclarationError(
            f"{cls.__name__}: validators do not run on patches, which never hold the whole row; use "
            f"Annotated[...] constraints"
        )
    keys: list[Column] = []
    fields: list[Column] = []
    for name, info in cls.model_fields.items():
        annotation, metadata = _unwrap(info)
        target = keys if _has(metadata, Key) else fields
        target.append(_column(cls, name, annotation, metadata, info, len(target), is_key=target is keys))
    if not keys:
        raise DeclarationError(f"{cls.__name__}: mark the primary key: Annotated[..., Key]")
    if not fields:
        raise DeclarationError(f"{cls.__name__}: has no fields besides its key, so there is nothing to write")
    if len(fields) > FIELDS_MAX:
        raise DeclarationError(
            f"{cls.__name__}: has {len(fields)} fields; the limit is {FIELDS_MAX}. Split it into two entities"
        )
    place, strategy = cls.__place__, cls.__strategy__
    by_name = {c.name: c for c in [*keys, *fields]}
    declaration = Declaration(
        cls, place.entity, place.table, place.schema, strategy, tuple(keys), tuple(fields), by_name
    )
    version = declaration.version_column
    if version is not None and version.name in by_name:
        raise DeclarationError(f"{cls.__name__}.{version.name}: is the column of versions, which is not a field")
    return declaration


def _unwrap(info: FieldInfo) -> tuple[Any, list[Any]]:
    """The annotation without Annotated and without `| None`, and all the metadata met on the way."""
    annotation, metadata = info.annotation, list(info.metadata)
    changed = True
    while changed:
        changed = False
        if typing.get_origin(annotation) is typing.Annotated:
            annotation, *more = typing.get_args(annotation)
            metadata += more
            changed = True
        if typing.get_origin(annotation) in (typing.Union, types.UnionType):
            rest = [a for a in typing.get_args(annotation) if a is not type(None)]
            if len(rest) == 1:
                annotation, changed = rest[0], True
    return annotation, metadata


def _nullable(annotation: Any) -> bool:
    if typing.get_origin(annotation) is typing.Annotated:
        return _nullable(typing.get_args(annotation)[0])
    return typing.get_origin(annotation) in (typing.Union, types.UnionType) and any(
        a is type(None) or _nullable(a) for a in typing.get_args(annotation)
    )


def _has(metadata: Sequence[Any], marker: type) -> bool:
    return any(m is marker or isinstance(m, marker) for m in metadata)


def _column(
    cls: type[Entity], name: str, annotation: Any, metadata: list[Any], info: FieldInfo, position: int, *, is_key: bool
) -> Column:
    place = f"{cls.__name__}.{name}"
    kind = _kind(place, annotation, metadata)
    found = [merge for marker, merge in _MERGES.items() if _has(metadata, marker)]
    if len(found) > 1:
        raise DeclarationError(f"{place}: has more than one merge: {', '.join(found)}")
    merge = found[0] if found else Merge.LAST
    nullable = _nullable(info.annotation)
    if is_key:
        _check_key_column(place, kind, nullable=nullable, merged=bool(found))
    if merge is Merge.SUM and kind.order is not Order.NUMBER:
        raise DeclarationError(
            f"{place}: Sum needs an int or a Decimal (a sum of floats depends on the order of its terms)"
        )
    if merge in (Merge.MAX, Merge.MIN) and kind.order is Order.NONE:
        raise DeclarationError(
            f"{place}: {merge} needs a number, a datetime or a date: the order of {kind.name} depends on the collation"
        )
    extra = [m for m in metadata if not isinstance(m, _MARKERS) and m not in _MARKERS]
    check = kind.check
    if merge is not Merge.LAST:
        check = _finite(check, merge)
    if extra:
        check = _constrained(check, annotation, extra)
    default = PydanticUndefined if info.is_required() else info.get_default(call_default_factory=True)
    return Column(name, kind, nullable, merge, position, default, check)


def _finite(check: Callable[[Any], Any], merge: Merge) -> Callable[[Any], Any]:
    def checked(value: Any) -> Any:
        found = check(value)
        if type(found) is not int and not kinds.is_finite(found):
            raise ValueError(f"must be finite: NaN and infinity have no place in a {merge}")
        return found

    return checked


def _constrained(check: Callable[[Any], Any], annotation: Any, extra: Sequence[Any]) -> Callable[[Any], Any]:
    annotated: Any = functools.reduce(lambda inner, m: typing.Annotated[inner, m], extra, annotation)
    adapter: TypeAdapter[Any] = TypeAdapter(annotated)

    def checked(value: Any) -> Any:
        found = check(value)
        try:
            adapter.validate_python(found, strict=True)
        except ValidationError as error:
            raise ValueError(error.errors(include_input=False, include_url=False)[0]["msg"]) from None
        return found

    return checked


def _check_key_column(place: str, kind: Kind, *, nullable: bool, merged: bool) -> None:
    if nullable:
        raise DeclarationError(f"{place}: a key column cannot be None")
    if merged:
        raise DeclarationError(f"{place}: a key column has no merge")
    if kind.name not in _KEY_KINDS:
        raise DeclarationError(f"{place}: {kind.name} cannot be a key; use one of {', '.join(sorted(_KEY_KINDS))}")


def _kind(place: str, annotation: Any, metadata: list[Any]) -> Kind:
    if _has(metadata, Json):
        return kinds.JSON
    if annotation is int:
        return kinds.integer("int2" if _has(metadata, Int2) else "int4" if _has(metadata, Int4) else "int8")
    if annotation is Decimal:
        numeric = next((m for m in metadata if isinstance(m, Numeric)), None)
        return kinds.numeric() if numeric is None else kinds.numeric(numeric.precision, numeric.scale)
    origin = typing.get_origin(annotation)
    if origin is list:
        return _array_kind(place, typing.get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        if not all(isinstance(member.value, str) for member in annotation):
            raise DeclarationError(
                f"{place}: the values of {annotation.__name__} must be str: they are the labels of the enum type"
            )
        return kinds.enumeration(annotation)
    kind = _PLAIN.get(origin or annotation)
    if kind is None:
        raise DeclarationError(
            f"{place}: {annotation} has no column type here; use int, Decimal, float, str, bool, "
            f"datetime, date, UUID, bytes, dict, "
            "an Enum of str, a list of those scalars, or Annotated[..., Json]"
        )
    return kind


def _array_kind(place: str, element: Any) -> Kind:
    nullable = _nullable(element)
    info = FieldInfo.from_annotation(element)
    annotation, metadata = _unwrap(info)
    kind = _kind(place, annotation, metadata)
    if kind is kinds.JSON or kind.name.endswith("[]"):
        raise DeclarationError(f"{place}: an array holds scalars; use Annotated[list[...], Json] for anything deeper")
    return kinds.array(kind, nullable_elements=nullable)

"""Arrays packed for the statement before the database is free, so that a lane has nothing left to do but send them.

Packing is a seventh of a batch's time. Done by the lane it leaves Postgres idle; done by the loop it overlaps with the
batch before.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Sequence
from typing import Any

from psycopg.adapt import Dumper, PyFormat, Transformer
from psycopg.pq import Format

_OIDS = {"int8": (20, 1016), "timestamptz": (1184, 1185)}  # element, array
_TEXT_OID, _TEXT_ARRAY_OID = 25, 1009  # of which the statement casts anything
_EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)  # Postgres counts microseconds from here


class Packed:
    """A parameter in Postgres' binary form, with its type."""

    __slots__ = ("data", "oid")

    def __init__(self, data: bytes, oid: int) -> None:
        self.data = data
        self.oid = oid


class PackedDumper(Dumper):
    """Sends a `Packed` as it is."""

    format = Format.BINARY

    def get_key(self, obj: Packed, format: PyFormat) -> Any:  # noqa: A002, ARG002  # psycopg's own signature
        return (self.cls, obj.oid)

    def upgrade(self, obj: Packed, format: PyFormat) -> PackedDumper:  # noqa: A002, ARG002
        dumper = PackedDumper(self.cls)
        dumper.oid = obj.oid
        return dumper

    def dump(self, obj: Packed) -> bytes:
        return obj.data


def pack(types: Sequence[str], columns: Sequence[Sequence[Any]]) -> list[Packed]:
    """Pack columns as arrays of the element types given. Raises what encoding a value raises: the data is at fault.

    A column that comes again, as the versions of fields that are always written together do, is packed once.
    """
    packed: dict[tuple[str, int], Packed] = {}
    for type_, column in zip(types, columns, strict=True):
        if (type_, id(column)) not in packed:
            packed[type_, id(column)] = _pack(type_, column)
    return [packed[type_, id(column)] for type_, column in zip(types, columns, strict=True)]


def _pack(type_: str, column: Sequence[Any]) -> Packed:
    if type_ == "int8":
        return Packed(_eight_bytes(column, _OIDS[type_][0]), _OIDS[type_][1])
    if type_ == "timestamptz":
        return Packed(_eight_bytes(_microseconds(column), _OIDS[type_][0]), _OIDS[type_][1])
    if type_ == "text" and None not in column:
        return Packed(_texts(column), _TEXT_ARRAY_OID)
    return _pack_by_psycopg(column)


def _pack_by_psycopg(column: Sequence[Any]) -> Packed:
    values = list(column)
    if values.count(None) == len(values):
        return Packed(_eight_bytes(values, _TEXT_OID), _TEXT_ARRAY_OID)  # psycopg has no binary form for it
    dumper = Transformer().get_dumper(values, PyFormat.BINARY)
    data = dumper.dump(values)
    if data is None:
        raise TypeError("a list has a binary form")
    return Packed(bytes(data), dumper.oid)


class _Sizes(dict[int, bytes]):
    """The size that stands before an element, looked up rather than packed for each."""

    def __missing__(self, size: int) -> bytes:
        return struct.pack("!i", size)


_SIZES = _Sizes({size: struct.pack("!i", size) for size in range(1024)})


def _texts(column: Sequence[str]) -> bytes:
    if not column:
        return _eight_bytes((), _TEXT_OID)
    sizes, encoded = _SIZES, [text.encode() for text in column]
    return _header(len(column), _TEXT_OID) + b"".join([sizes[len(text)] + text for text in encoded])


def _header(count: int, element_oid: int) -> bytes:
    """Dimensions, has-nulls, element type, length, lower bound.

    Per element follow its size (-1: NULL) and its value.
    """
    return struct.pack("!iiIii", 1, 1, element_oid, count, 1)


def _eight_bytes(column: Sequence[int | None], element_oid: int) -> bytes:
    count = len(column)
    if count == 0:
        return struct.pack("!iiI", 0, 0, element_oid)
    header = _header(count, element_oid)
    if None not in column:
        flat: list[Any] = [8] * (2 * count)
        flat[1::2] = column
        return header + struct.pack("!" + "iq" * count, *flat)
    null, one = b"\xff\xff\xff\xff", struct.Struct("!iq").pack
    return header + b"".join([null if value is None else one(8, value) for value in column])


def _microseconds(column: Sequence[dt.datetime | None]) -> list[int | None]:
    return [
        None
        if value is None
        else (since := value - _EPOCH).days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds
        for value in column
    ]

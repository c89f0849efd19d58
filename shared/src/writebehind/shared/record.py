"""The record on an entity's topic: one patch, as a msgpack array.

    [fingerprint, version, generation, mask, *key columns, *fields]

Bit i of `mask` says that field i is in the patch, which tells `None` from "left out"; a mask of 0 is a delete. Fields
that
are left out hold nil. `generation` is the version at which the cache entry was created, 0 when the cache was not
written.
The array has one fixed type per declaration, so that a whole batch decodes without a line of Python per message.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Sequence
from typing import Any

import msgspec

from .declaration import Declaration
from .errors import WritebehindError

FINGERPRINT, VERSION, GENERATION, MASK, KEYS = range(5)  # places in a decoded record; the key columns start at KEYS
DELETE = 0

Row = tuple[Any, ...]

_UINT64 = 0xCF  # msgpack's type byte
_VERSIONS = struct.Struct(">BQBQ").pack


class BadRecord(WritebehindError):
    """A record that cannot be read with this declaration.

    `index` is its place in the batch; the reason holds no values.
    """

    def __init__(self, index: int, reason: str, *, fingerprint: int | None = None) -> None:
        self.index = index
        self.reason = reason
        self.fingerprint = fingerprint
        super().__init__(f"record {index} of the batch: {reason}")


class Codec:
    """Encodes and decodes the records of one declaration. Safe to share between threads."""

    def __init__(self, declaration: Declaration) -> None:
        self._declaration = declaration
        keys = [c.wire_type for c in declaration.keys]
        fields = [c.wire_type | None for c in declaration.fields]
        self._width = KEYS + len(keys)
        self._mask_all = (1 << len(fields)) - 1
        row: Any = tuple.__class_getitem__((int, int, int, int, *keys, *fields))  # known at run time only
        self._decoder = msgspec.msgpack.Decoder(row)
        self._encode = msgspec.msgpack.Encoder(decimal_format="string").encode
        self._fingerprint = declaration.fingerprint
        self._absent = [None] * len(fields)
        rest = [None] * (1 + len(keys) + len(fields))  # nil is one byte
        self._head = len(self._encode(rest)) - len(rest)
        self._start = self._encode([self._fingerprint, None, None, *rest])[: -2 - len(rest)]

    def encode(self, version: int, generation: int, key: Sequence[Any], patch: Sequence[tuple[int, Any]]) -> bytes:
        """One record.

        `key` and the values are in wire form; `patch` pairs a field's position with its value; empty deletes.
        """
        fields = self._absent.copy()
        mask = 0
        for position, value in patch:
            fields[position] = value
            mask |= 1 << position
        return self.record(version, generation, self.rest(mask, key, fields))

    def rest(self, mask: int, key: Sequence[Any], fields: Sequence[Any]) -> bytes:
        """A record from its mask on, the fields laid out: one value each, None for what is left out."""
        return self._encode((mask, *key, *fields))[self._head :]

    def record(self, version: int, generation: int, rest: bytes) -> bytes:
        """A record of what `rest` gave."""
        return self._start + _VERSIONS(_UINT64, version, _UINT64, generation) + rest

    def decode(self, values: Sequence[bytes | None]) -> list[Row]:
        """The rows of a batch. Raises BadRecord for the first that cannot be read."""
        try:
            rows: list[Row] = list(map(self._decoder.decode, values))  # type: ignore[arg-type]  # None raises TypeError: handled
        except (msgspec.DecodeError, TypeError, ValueError):  # ValueError: text that is not UTF-8
            rows = [self._decode_one(index, value) for index, value in enumerate(values)]
        if rows:
            self._check(rows)
        return rows

    def _decode_one(self, index: int, value: bytes | None) -> Row:
        if value is None:
            raise BadRecord(index, "it has no value")
        try:
            row: Row = self._decoder.decode(value)
            return row
        except (msgspec.DecodeError, ValueError) as error:
            fingerprint = _fingerprint(value)
            if fingerprint is not None and fingerprint != self._declaration.fingerprint:
                raise self._other_declaration(index, fingerprint) from None
            raise BadRecord(index, f"it is not a record of {self._declaration.name}: {type(error).__name__}") from None

    def _check(self, rows: list[Row]) -> None:
        own = self._declaration.fingerprint
        deletes = self._declaration.write_behind.deletes
        masks = set(map(operator.itemgetter(MASK), rows))
        fingerprints = set(map(operator.itemgetter(FINGERPRINT), rows))
        if fingerprints == {own} and min(masks) >= (0 if deletes else 1) and max(masks) <= self._mask_all:
            return
        for index, row in enumerate(rows):
            if row[FINGERPRINT] != own:
                raise self._other_declaration(index, row[FINGERPRINT])
            if not 0 <= row[MASK] <= self._mask_all:
                raise BadRecord(index, "its mask names fields that do not exist")
            if row[MASK] == DELETE and not deletes:
                raise BadRecord(index, "it is a delete, and the entity is declared without deletes=True")

    def _other_declaration(self, index: int, fingerprint: int) -> BadRecord:
        reason = (
            f"it was written with another declaration of {self._declaration.name} (fingerprint {fingerprint}, ours is "
            f"{self._declaration.fingerprint}): deploy the flusher with the producer's declaration"
        )
        return BadRecord(index, reason, fingerprint=fingerprint)


def version_of(value: bytes | None) -> int | None:
    """The version of a record of any declaration, or None when it is no record."""
    return _integer(value, VERSION) if value is not None else None


def _fingerprint(value: bytes) -> int | None:
    return _integer(value, FINGERPRINT)


def _integer(value: bytes, place: int) -> int | None:
    try:
        array = msgspec.msgpack.decode(value)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return array[place] if isinstance(array, list) and len(array) > place and isinstance(array[place], int) else None

"""Codec: any patch of any column type reads back; any damage is an error or a whole row, never half of one."""

from __future__ import annotations

import datetime as dt
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from tests.everything import DECLARATION, patches, same
from writebehind.shared.kinds import INT8_MAX, INT8_MIN
from writebehind.shared.record import FINGERPRINT, GENERATION, KEYS, MASK, VERSION, BadRecord, Codec, Row

CODEC = Codec(DECLARATION)
WIDTH = KEYS + 1 + len(DECLARATION.fields)
VERSIONS = st.integers(1, 2**53)


def encode(version: int, generation: int, key: int, patch: dict[str, Any]) -> bytes:
    return CODEC.encode(version, generation, DECLARATION.check_key(key), wire(patch))


def wire(patch: dict[str, Any]) -> list[tuple[int, Any]]:
    return [
        (c.position, value if value is None or c.kind.to_wire is None else c.kind.to_wire(value))
        for c, value in DECLARATION.check_patch(patch)
    ]


@given(VERSIONS, VERSIONS, st.integers(INT8_MIN, INT8_MAX), patches())
def test_a_record_reads_back_exactly(version: int, generation: int, key: int, patch: dict[str, Any]) -> None:
    (row,) = CODEC.decode([encode(version, generation, key, patch)])

    assert row[:MASK] == (DECLARATION.fingerprint, version, generation)
    assert row[KEYS] == key
    expected = dict(wire(patch))
    for column in DECLARATION.fields:
        assert bool(row[MASK] & column.bit) == (column.position in expected)
        assert same(row[KEYS + 1 + column.position], expected.get(column.position))


@given(patches(), st.data())
def test_a_truncated_record_is_refused(patch: dict[str, Any], data: st.DataObject) -> None:
    record = encode(2, 1, 3, patch)

    assert read(record[: data.draw(st.integers(0, len(record) - 1))]) is None


@given(patches(), st.data())
def test_a_record_with_a_damaged_byte_is_refused_or_a_whole_row(patch: dict[str, Any], data: st.DataObject) -> None:
    record = bytearray(encode(2, 1, 3, patch))
    record[data.draw(st.integers(0, len(record) - 1))] ^= data.draw(st.integers(1, 255))

    row = read(bytes(record))

    if row is not None:
        check_whole(row)


@given(st.binary(max_size=200))
@example(b"\x91" * 50_000)
@example(b"\xdf\xff\xff\xff\xff")
def test_noise_is_refused(noise: bytes) -> None:
    assert read(noise) is None


def read(record: bytes) -> Row | None:
    """The row, or None when the codec says that it is not a record."""
    try:
        return CODEC.decode([record])[0]
    except BadRecord:
        return None


def check_whole(row: Row) -> None:
    assert len(row) == WIDTH
    assert row[FINGERPRINT] == DECLARATION.fingerprint
    assert all(type(row[place]) is int for place in (VERSION, GENERATION, MASK, KEYS))
    for column in DECLARATION.fields:
        value = row[KEYS + 1 + column.position]
        if value is None:
            continue
        if column.kind.to_wire is not None:
            assert type(value) is str
        else:
            assert same(column.kind.from_cache(column.kind.to_cache(value)), value)
        if isinstance(value, dt.datetime):
            assert value.tzinfo is not None  # without a zone it would be another instant in each session

"""Arrays packed by us are the ones that psycopg would send."""

from __future__ import annotations

import struct

import pytest
from psycopg.adapt import PyFormat, Transformer

from writebehind.flusher.packed import Packed, pack

TEXT_ARRAY_OID = 1009


@pytest.mark.parametrize(
    "texts",
    [
        ["name 1"],
        ["a", "", "ab", "a longer one"],
        ["café", "名前", "🙂", "a\0b"],
        ["x" * 1023, "x" * 1024, "é" * 70_000],
    ],
)
def test_texts_are_packed_as_psycopg_packs_them(texts: list[str]) -> None:
    (packed,) = pack(["text"], [texts])

    assert packed.oid == TEXT_ARRAY_OID
    assert _elements(packed) == _elements(_by_psycopg(texts))


@pytest.mark.parametrize("texts", [["a", None], [None, None], [None, "é"]])
def test_null_is_not_the_empty_text(texts: list[str | None]) -> None:
    (packed,) = pack(["text"], [texts])

    assert _elements(packed) == [None if text is None else text.encode() for text in texts]


def test_no_texts_are_an_empty_array() -> None:
    (packed,) = pack(["text"], [[]])

    assert struct.unpack_from("!i", packed.data) == (0,)  # no dimensions


def test_a_column_that_comes_again_is_packed_once() -> None:
    versions = [3, 1, 2]

    first, second, other = pack(["int8", "int8", "int8"], [versions, versions, list(versions)])

    assert first is second
    assert other is not first
    assert other.data == first.data


def test_one_column_under_two_types_is_packed_for_each() -> None:
    nothing: list[int | None] = [None]

    number, text = pack(["int8", "text"], [nothing, nothing])

    assert number.oid != text.oid


def _by_psycopg(texts: list[str]) -> Packed:
    dumper = Transformer().get_dumper(texts, PyFormat.BINARY)
    return Packed(bytes(dumper.dump(texts) or b""), dumper.oid)


def _elements(packed: Packed) -> list[bytes | None]:
    """The elements of a one-dimensional array in Postgres' binary form."""
    dimensions, _, _, count, lower_bound = struct.unpack_from("!iiIii", packed.data)
    assert (dimensions, lower_bound) == (1, 1)
    at, elements = 20, []
    for _ in range(count):
        (size,) = struct.unpack_from("!i", packed.data, at)
        at += 4
        elements.append(None if size < 0 else packed.data[at : at + size])
        at += max(size, 0)
    assert at == len(packed.data)
    return elements

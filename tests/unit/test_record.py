"""Records: what the codec writes, reads, and refuses to read."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import msgspec
import pytest

from writebehind.shared.declaration import declaration_of
from writebehind.shared.entity import Entity, Key, Sum, WriteBehind
from writebehind.shared.record import DELETE, FINGERPRINT, GENERATION, KEYS, MASK, VERSION, BadRecord, Codec

SECRET = "s3cret"


class Seat(Entity, table="seats", strategy=WriteBehind()):
    hall: Annotated[str, Key]
    number: Annotated[int, Key]
    guest: str | None
    paid: Annotated[Decimal, Sum]


class Chair(Entity, table="chairs", strategy=WriteBehind(deletes=True)):
    id: Annotated[int, Key]
    colour: str


SEAT, CHAIR = Codec(declaration_of(Seat)), Codec(declaration_of(Chair))
OWN = declaration_of(Seat).fingerprint


def raw(*parts: object) -> bytes:
    return msgspec.msgpack.encode(parts)


def test_a_record_reads_back_as_a_row() -> None:
    row = SEAT.decode([SEAT.encode(17, 11, ("main", 5), [(1, Decimal("2.50"))])])[0]

    assert row == (OWN, 17, 11, 0b10, "main", 5, None, Decimal("2.50"))
    assert (row[FINGERPRINT], row[VERSION], row[GENERATION], row[MASK], row[KEYS]) == (OWN, 17, 11, 2, "main")


def test_none_is_told_from_left_out() -> None:
    set_to_none, left_out = SEAT.decode(
        [
            SEAT.encode(1, 0, ("main", 5), [(0, None), (1, Decimal(1))]),
            SEAT.encode(1, 0, ("main", 5), [(1, Decimal(1))]),
        ]
    )

    assert (set_to_none[MASK], left_out[MASK]) == (0b11, 0b10)


def test_an_empty_patch_is_a_delete() -> None:
    assert CHAIR.decode([CHAIR.encode(9, 0, (1,), [])])[0][MASK] == DELETE


def test_an_empty_batch_has_no_rows() -> None:
    assert SEAT.decode([]) == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "it has no value"),
        (b"", "it is not a record of seat: DecodeError"),
        (b"\xc1", "it is not a record of seat: DecodeError"),
        (SECRET.encode(), "it is not a record of seat: ValidationError"),
        (raw(OWN, 1, 0, 1, "main", 5, SECRET), "it is not a record of seat: ValidationError"),
        (raw(OWN, 1, 0, 1, "main", SECRET, None, None), "it is not a record of seat: ValidationError"),
        (raw(OWN, 1, 0, 1, None, 5, SECRET, None), "it is not a record of seat: ValidationError"),
        (raw(OWN, 1, 0, 1, "main", 5, None, SECRET), "it is not a record of seat: ValidationError"),
        (raw(OWN, 1, 0, 4, "main", 5, None, None), "its mask names fields that do not exist"),
        (raw(OWN, 1, 0, -1, "main", 5, None, None), "its mask names fields that do not exist"),
        (raw(OWN, 1, 0, 0, "main", 5, None, None), "it is a delete, and the entity is declared without deletes=True"),
        (
            raw(OWN, 1, 0, 1, "main", 5, "guest", None).replace(b"guest", b"\xff\xfe\xfd\xfc\xfb"),
            "it is not a record of seat: UnicodeDecodeError",
        ),
        (b"\x91" * 100_000 + b"\x01", "it is not a record of seat: ValidationError"),
        (b"\xdd\xff\xff\xff\xff", "it is not a record of seat: ValidationError"),
    ],
    ids=range(14),
)
def test_a_bad_record_is_refused_with_its_place_and_reason_but_not_its_values(value: bytes | None, reason: str) -> None:
    good = SEAT.encode(1, 0, ("main", 5), [(0, "ann")])

    with pytest.raises(BadRecord) as caught:
        SEAT.decode([good, value, good, value])

    assert (caught.value.index, caught.value.reason) == (1, reason)
    assert str(caught.value) == f"record 1 of the batch: {reason}"
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("value", [raw(5, 1, 0, 1, "main", 5, None, None), raw(5, 1, 0, 1, "main"), raw(5, "x")])
def test_a_record_of_another_declaration_is_told_by_its_fingerprint(value: bytes) -> None:
    with pytest.raises(
        BadRecord, match=f"another declaration of seat .fingerprint 5, ours is {OWN}.: deploy"
    ) as caught:
        SEAT.decode([value])

    assert caught.value.fingerprint == 5

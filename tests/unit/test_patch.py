"""Patches in one pass: the same rules and the same forms as field by field, whatever the order of the fields."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given

from tests.everything import DECLARATION, patches, same
from writebehind.shared import patch as patch_module
from writebehind.shared.declaration import declaration_of
from writebehind.shared.entity import Entity, Key, Sum, WriteBehind
from writebehind.shared.errors import InvalidWrite
from writebehind.shared.patch import PatchEncoder
from writebehind.shared.scripts import flat, to_cache

ENCODER = PatchEncoder(DECLARATION)


class Player(Entity, table="players", strategy=WriteBehind()):
    id: Annotated[int, Key]
    name: str
    nick: str | None = None
    score: Annotated[int, Sum] = 0


PLAYER = PatchEncoder(declaration_of(Player))


def forms(patch: dict[str, Any]) -> tuple[Any, ...]:
    mask, fields, cached, size = PLAYER.encode(patch)
    return mask, fields, msgspec.msgpack.decode(cached), size


@given(patches())
def test_the_forms_are_those_of_the_fields_one_by_one(patch: dict[str, Any]) -> None:
    mask, fields, cached, size = ENCODER.encode(patch)

    checked = DECLARATION.check_patch(patch)
    assert mask == sum(column.bit for column, _ in checked)
    texts = [(column.position, to_cache(value, column.kind.to_cache)) for column, value in checked]
    assert msgspec.msgpack.decode(cached) == flat(texts)
    assert size == sum(len(text) for (_, text), (_, value) in zip(texts, checked, strict=True) if value is not None)
    expected: list[Any] = [None] * len(DECLARATION.fields)
    for column, value in checked:
        to_wire = column.kind.to_wire
        expected[column.position] = value if value is None or to_wire is None else to_wire(value)
    assert all(map(same, fields, expected))


def test_the_order_of_the_fields_is_the_callers() -> None:
    assert forms({"score": 1, "name": "a"}) == (0b101, ["a", None, 1], [3, "1", 1, "a"], 2)
    assert forms({"name": "a", "score": 1}) == (0b101, ["a", None, 1], [1, "a", 3, "1"], 2)


def test_none_is_a_value_of_its_own() -> None:
    assert forms({"nick": None}) == (0b10, [None, None, None], [2, "\0"], 0)


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"nme": 1}, r"Player\.nme: is not a declared field \(got int\)"),
        ({"id": 1}, r"Player\.id: is a key column"),
        ({"name": None}, r"Player\.name: must not be None \(got NoneType\)"),
        ({"score": None}, r"Player\.score: must not be None: nothing to sum"),
        ({"name": "a", "score": "secret"}, r"Player\.score: must be an int .* \(got str\)"),
        ({}, r"Player: a write needs at least one field"),
    ],
)
def test_what_breaks_a_rule_is_named_the_first_time_and_the_second(patch: dict[str, Any], message: str) -> None:
    for _ in range(2):
        with pytest.raises(InvalidWrite, match=message) as raised:
            PLAYER.encode(patch)
        assert "secret" not in str(raised.value)
        assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_the_shapes_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch_module, "SHAPES_MAX", 2)
    encoder = PatchEncoder(declaration_of(Player))
    for patch in ({"name": "a"}, {"nick": "b"}, {"score": 1}, {"name": "c", "nick": "d"}, {"name": "e"}):
        encoder.encode(patch)
        assert len(encoder._shapes) <= 2
    assert encoder.encode({"name": "a"})[0] == 1

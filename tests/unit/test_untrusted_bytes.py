"""What comes from Kafka, the cache or a file is data: nothing shipped unpickles or evaluates, and depth is an error."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from writebehind.shared.declaration import declaration_of
from writebehind.shared.entity import Entity, Key
from writebehind.shared.invalidation import decode
from writebehind.shared.record import BadRecord, Codec
from writebehind.shared.strategy import WriteBehind

ROOT = Path(__file__).parents[2]
SHIPPED = [
    path
    for name in ("shared", "producer", "flusher", "compose/embedded")
    for path in (ROOT / name / "src").rglob("*.py")
]
MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml"}
CALLS = {"eval", "exec", "compile", "__import__"}
DEEP = b"\x91" * 100_000 + b"\x00"  # msgpack: an array in an array in ...


class Note(Entity, table="notes", strategy=WriteBehind()):
    id: Annotated[int, Key]
    text: str | None = None
    tags: list[str] | None = None
    extra: dict[str, Any] | None = None


def suspicious(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names if name.name.partition(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in MODULES:
                yield module
            case ast.Call(func=ast.Name(id=name)) if name in CALLS:
                yield f"{name}()"
            case _:
                pass


def test_nothing_that_is_shipped_makes_code_of_data() -> None:
    assert len(SHIPPED) > 100
    found = {path.name: names for path in SHIPPED if (names := list(suspicious(ast.parse(path.read_text()))))}
    assert found == {}


@pytest.mark.parametrize("text", ["import pickle", "from pickle import loads", "eval('1')", "import yaml.loader"])
def test_what_would_make_code_is_noticed(text: str) -> None:
    assert list(suspicious(ast.parse(text)))


def test_records_and_invalidations_of_any_depth_are_bad_records() -> None:
    codec = Codec(declaration_of(Note))
    good = msgspec.msgpack.decode(codec.encode(1, 0, [1], [(0, "x")]))
    head, parts = msgspec.msgpack.encode(good)[:1], [msgspec.msgpack.encode(part) for part in good]
    for place in range(len(good)):
        with pytest.raises(BadRecord):
            codec.decode([head + b"".join([*parts[:place], DEEP, *parts[place + 1 :]])])
    longer = bytes([head[0] + 1])
    with pytest.raises(BadRecord):
        codec.decode([longer + b"".join([*parts, DEEP])])
    with pytest.raises(BadRecord):
        codec.decode([DEEP])
    with pytest.raises(ValueError, match="not an invalidation"):
        decode(b"[" * 100_000 + b"]" * 100_000)

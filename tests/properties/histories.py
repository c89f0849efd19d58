"""Histories of writes to one entity, and a plain model of what they must come to: one record at a time, no columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from hypothesis import strategies as st

from writebehind.shared.declaration import Declaration, declaration_of
from writebehind.shared.entity import Entity, Key, Max, Min, Sum, WriteBehind
from writebehind.shared.record import Codec, Row

FIELDS = ("name", "note", "hits", "best", "least")
COMBINING = {"hits", "best", "least"}
# What a row of the table holds where nothing was written. A sum and a maximum start at theirs.
DEFAULTS: Mapping[str, Any] = {"name": "unnamed", "note": None, "hits": 100, "best": 3, "least": None}
INITIAL: Mapping[str, Any] = {"name": "before", "note": "kept", "hits": 7, "best": 1, "least": 2}


class _Fields(Entity, abstract=True):
    id: Annotated[int, Key]
    name: str | None = None
    note: str | None = None
    hits: Annotated[int, Sum] = 0
    best: Annotated[int | None, Max] = None
    least: Annotated[int | None, Min] = None


class Tally(_Fields, table="tallies", strategy=WriteBehind()):
    """Never deleted."""


class Mortal(_Fields, table="mortals", strategy=WriteBehind(deletes=True)):
    """Deleted now and then."""


TALLY: Declaration = declaration_of(Tally)
MORTAL: Declaration = declaration_of(Mortal)

DDL = (
    "CREATE TABLE {} (id bigint PRIMARY KEY, name text DEFAULT 'unnamed', note varchar(20),"
    " hits bigint NOT NULL DEFAULT 100, best bigint DEFAULT 3, least bigint, versions bigint[])"
)


@dataclass(frozen=True)
class Write:
    """One record: a patch, or a delete when the patch is empty."""

    key: int
    version: int
    generation: int
    patch: Mapping[str, Any]

    @property
    def is_delete(self) -> bool:
        return not self.patch

    def row(self, declaration: Declaration) -> Row:
        """The record as the flusher decodes it."""
        codec = Codec(declaration)
        pairs = [(declaration.by_name[name].position, value) for name, value in self.patch.items()]
        return codec.decode([codec.encode(self.version, self.generation, (self.key,), pairs)])[0]


@dataclass
class State:
    """A row: its values and, per field, the version of the newest write to it."""

    values: dict[str, Any]
    versions: dict[str, int] = field(default_factory=dict)

    def apply(self, write: Write) -> None:
        for name, value in write.patch.items():
            old = self.values[name]
            if name == "hits":
                self.values[name] = old + value
            elif name == "best":
                self.values[name] = value if old is None else max(old, value)
            elif name == "least":
                self.values[name] = value if old is None else min(old, value)
            elif write.version > self.versions.get(name, 0):
                self.values[name] = value
            self.versions[name] = max(write.version, self.versions.get(name, 0))


def outcome(
    writes: Iterable[Write], start: Mapping[str, Any], initial: Mapping[str, Any] | None = None
) -> State | None:
    """The row that one key's writes come to, or None when there is none. They may come in any order.

    `start` is what a new row holds; `initial` is the row that is there before, if any.
    """
    writes = list(writes)
    deleted = max((write.version for write in writes if write.is_delete), default=0)
    state = State(dict(initial)) if initial is not None and not deleted else None
    for write in writes:
        if write.version > deleted:
            state = state or State(dict(start))
            state.apply(write)
    return state


def by_key(writes: Sequence[Write]) -> dict[int, list[Write]]:
    grouped: dict[int, list[Write]] = {}
    for write in writes:
        grouped.setdefault(write.key, []).append(write)
    return grouped


_SMALL = st.integers(-5, 5)
_TEXT = st.none() | st.sampled_from(["", "a", "b", "c"])
_PATCHES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {}, optional={"name": _TEXT, "note": _TEXT, "hits": _SMALL, "best": _SMALL, "least": _SMALL}
).filter(bool)


_LAST_PATCHES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {}, optional={"name": _TEXT, "note": _TEXT}
).filter(bool)


@st.composite
def histories(draw: st.DrawFn, *, deletes: bool = False, size_max: int = 14) -> list[Write]:
    """Writes to a few keys or to many, each with a version of its own, in any order."""
    keys = st.integers(1, draw(st.sampled_from([1, 2, 40])))
    # A few deletes, and many patches without a sum: what is left of a row is then decided field by field.
    kinds: list[st.SearchStrategy[dict[str, Any]]] = (
        [_PATCHES, _LAST_PATCHES, _LAST_PATCHES, st.just(dict[str, Any]())] if deletes else [_PATCHES]
    )
    patches = st.sampled_from(kinds).flatmap(lambda kind: kind)
    bodies = draw(st.lists(st.tuples(keys, st.sampled_from([0, 7, 9]), patches), min_size=1, max_size=size_max))
    versions = draw(st.permutations(range(1, len(bodies) + 1)))
    return [
        Write(key, version, generation, patch)
        for version, (key, generation, patch) in zip(versions, bodies, strict=True)
    ]


@st.composite
def batched(draw: st.DrawFn, *, deletes: bool = False) -> list[list[Write]]:
    """A history cut into batches that come in any order.

    A delete does not come in a later batch than a newer write to a combining field: what was added to the field before
    the delete could then no longer be told from what was added after it. The documented limit of deletes.
    """
    writes = draw(histories(deletes=deletes))
    count = draw(st.integers(1, 5))
    places = [draw(st.integers(0, count - 1)) for _ in writes]
    batches: list[list[Write]] = [[] for _ in range(count)]
    for write, place in zip(writes, places, strict=True):
        if write.is_delete:
            place = min(  # noqa: PLW2901  # the delete comes earlier
                [
                    place,
                    *(
                        p
                        for w, p in zip(writes, places, strict=True)
                        if w.key == write.key and w.version > write.version and COMBINING & w.patch.keys()
                    ),
                ]
            )
        batches[place].append(write)
    return [batch for batch in batches if batch]

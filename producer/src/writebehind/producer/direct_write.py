"""One write of a cache-aside or write-through row: checked, and in the forms that statement and cache need. No I/O."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from writebehind.shared import naming
from writebehind.shared.declaration import Column, Declaration, declaration_of
from writebehind.shared.direct import Filling, Finishing, How
from writebehind.shared.entity import Entity, Merge
from writebehind.shared.errors import InvalidWrite
from writebehind.shared.kinds import CACHE_NULL
from writebehind.shared.scripts import to_cache
from writebehind.shared.strategy import CacheAside, Direct, WriteBehind, WriteThrough

Row = Sequence[Any]  # the fields, then the version or None
Verb = Literal["update", "add", "create", "delete"]


class DirectTarget:
    """What the client keeps per cache-aside or write-through entity."""

    def __init__(self, declaration: Declaration, cache_prefix: str) -> None:
        self.declaration = declaration
        self.name = declaration.name
        self.strategy: Direct = declaration.direct
        self.puts = isinstance(self.strategy, WriteThrough)
        self.early_beta = self.strategy.early_recompute_beta if isinstance(self.strategy, CacheAside) else 0.0
        self._prefix = cache_prefix

    def entry(self, key_text: str) -> str:
        """The cache key of a row."""
        return naming.cache_key(self._prefix, self.name, key_text)

    def ttl_ms(self) -> int:
        """The life of an entry that is filled now."""
        return max(1, int(self.strategy.ttl_s * 1000 * (1 - self.strategy.ttl_jitter * random.random())))

    def filling(self, row: Row | None, load_us: int) -> Filling:
        """What the entry of this row gets."""
        if row is None:
            return Filling(False, 0, max(1, int(self.strategy.negative_ttl_s * 1000)), ())
        return Filling(True, row[-1] or 0, self.ttl_ms(), self._fields(row), load_us if self.early_beta else 0)

    def finishing(self, token: str, how: How, row: Row | None) -> Finishing:
        """What a writer leaves in the entry of this row."""
        version = 0 if row is None else row[-1] or 0
        fields = self._fields(row) if how == "put" and row is not None else ()
        return Finishing(token, how, self.ttl_ms(), version, fields)

    def siblings(self) -> list[DirectTarget]:
        """The other direct entities on this table that this process knows: their rows come and go with ours."""
        return [DirectTarget(d, self._prefix) for d in self._neighbours() if isinstance(d.strategy, Direct)]

    def late_siblings(self) -> list[Declaration]:
        """The write-behind entities on this table that this process knows."""
        return [d for d in self._neighbours() if isinstance(d.strategy, WriteBehind)]

    def entry_of(self, sibling: Declaration, key: Sequence[Any]) -> tuple[str, str]:
        """The key text and the cache key that a sibling has for this row."""
        text = sibling.key_text(key)
        return text, naming.cache_key(self._prefix, sibling.name, text)

    def _neighbours(self) -> Iterator[Declaration]:
        own = self.declaration
        for cls in _descendants(Entity):
            place = cls.__dict__.get("__place__")
            if place is not None and cls is not own.cls and (place.table, place.schema) == (own.table, own.schema):
                yield declaration_of(cls)

    def _fields(self, row: Row) -> list[str]:
        flat: list[str] = []
        for c in self.declaration.fields:
            flat += (c.name, to_cache(c.loaded(row[c.position]), c.kind.to_cache))
        return flat


@dataclass(slots=True)
class DirectWrite:
    """A checked write. `values` in wire form, by position of the field."""

    verb: Verb
    key: tuple[Any, ...]
    key_text: str
    values: dict[int, Any] = field(default_factory=dict[int, Any])
    row: Row | None = None  # as it is after the write

    @property
    def positions(self) -> tuple[int, ...]:
        return tuple(self.values)

    @property
    def params(self) -> list[Any]:
        """In the order in which the statement of the verb takes them."""
        values = list(self.values.values())
        return [*self.key, *values] if self.verb == "create" else [*values, *self.key]


def checked(target: DirectTarget, verb: Verb, key: Any, patch: Mapping[str, Any], *, bytes_max: int) -> DirectWrite:
    """A checked write. Raises InvalidWrite, also when the patch is larger than `bytes_max`."""
    declaration = target.declaration
    wire_key = declaration.check_key(key)
    values: dict[int, Any] = {}
    size_bytes = 0
    # A row may be created with nothing but its key.
    fields = declaration.check_patch(patch) if patch or verb in ("update", "add") else []
    if len(fields) > 1:
        fields.sort(key=_position)
    for column, value in fields:
        if verb == "add" and column.merge is not Merge.SUM:
            rule = "cannot be added to: it is not declared Sum; use update"
            raise InvalidWrite(declaration.cls.__name__, column.name, type(value).__name__, rule)
        kind = column.kind
        values[column.position] = value if value is None or kind.to_wire is None else kind.to_wire(value)
        size_bytes += len(CACHE_NULL if value is None else kind.to_cache(value).encode())
    if size_bytes > bytes_max:
        rule = f"the patch has {size_bytes} bytes, {bytes_max} are allowed (cache.patch_bytes_max)"
        raise InvalidWrite(declaration.cls.__name__, None, "patch", rule)
    return DirectWrite(verb, wire_key, declaration.key_text(wire_key), values)


def _position(field: tuple[Column, Any]) -> int:
    return field[0].position


def runs(writes: Sequence[DirectWrite]) -> Iterator[list[DirectWrite]]:
    """Writes in order, cut into stretches that one statement can carry out: the same fields, and no row twice."""
    run: list[DirectWrite] = []
    keys: set[str] = set()
    for write in writes:
        if run and (write.positions != run[0].positions or write.key_text in keys):
            yield run
            run, keys = [], set()
        run.append(write)
        keys.add(write.key_text)
    if run:
        yield run


def _descendants(cls: type[Entity]) -> Iterator[type[Entity]]:
    for child in cls.__subclasses__():
        yield child
        yield from _descendants(child)

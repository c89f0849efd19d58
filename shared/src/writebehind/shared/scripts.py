"""The cache scripts: what is sent, and what comes back. No I/O: a `Call` is run by whoever has a connection.

Arguments and replies travel as one msgpack blob each: redis-py spends more on a thousand arguments than Valkey on the
writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, NamedTuple

import msgspec

from .bookkeeping import short_names
from .declaration import Declaration
from .fold import Settlement
from .kinds import CACHE_NULL
from .record import GENERATION, KEYS, MASK, VERSION, Row

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text and the SHA-1 by which the server knows it once loaded."""

    text: str
    sha: str

    @classmethod
    def of(cls, text: str) -> Script:
        """A script with this text."""
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    @classmethod
    def read(cls, *parts: str) -> Script:
        """A script made of these files of `lua/`."""
        folder = files("writebehind.shared") / "lua"
        return cls.of("\n".join((folder / f"{part}.lua").read_text() for part in parts))


WRITE, LEASE, FILL, HEAL, FORGET, DOUBT = (
    Script.read("decimal", "entry", name) for name in ("write", "lease", "fill", "heal", "forget", "doubt")
)
SETTLE, UNDO = (Script.read("decimal", "entry", "release", name) for name in ("settle", "undo"))

DOUBT_TTL_S = 86_400
"""How long an entry stays in doubt at most, in seconds."""


class Call(NamedTuple):
    """One script call: `keys` are entries, `args` what the script documents."""

    script: Script
    keys: Sequence[str]
    args: Sequence[bytes | str | int]


class Applied(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """A write is in the cache. `undo` is what `undo` needs, opaque to everyone else: a part of the reply as it came."""

    version: int
    generation: int
    undo: msgspec.Raw


class NeedsBase(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """An increment needs the row first.

    With a token, we must load it and fill the entry; else somebody else is doing so.
    """

    token: str


class OutOfRange(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """The sum would leave its column's range; nothing was changed. `index` is the field's position + 1."""

    index: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A cache entry as read: declared fields in cache form by name, and whether we may fill it."""

    fields: dict[str, str]
    granted: bool


_decode_write = msgspec.msgpack.Decoder(tuple[int, list[Applied | NeedsBase | OutOfRange]]).decode

Patch = Sequence[tuple[int, str]]  # position of a field and its value in cache form
# The same as the scripts take it: [index, value, index, value, ...], with indexes from 1. Or encoded already.
FlatPatch = Sequence[int | str] | msgspec.Raw


class Healthy(NamedTuple):
    """What healing an entry needs of its row: whether it exists, its fields in cache form, the versions it holds of its
    Last fields by position, and the version of the key's last delete, 0 when there was none.
    """

    exists: bool
    fields: Patch
    versions: Sequence[tuple[int, int]]
    deleted: int


class EntityScripts:
    """The calls of one declaration."""

    def __init__(self, declaration: Declaration) -> None:
        self._declaration = declaration
        # An order is needed for Max and Min, a range only where an increment could leave it.
        self._fields = _encode(
            [
                [c.name, c.merge.value, c.kind.order.value, _bound(c.kind.low), _bound(c.kind.high), short]
                for c, short in zip(declaration.fields, short_names([c.name for c in declaration.fields]), strict=True)
            ]
        )
        self._ttl_ms = max(1, int(declaration.strategy.ttl_s * 1000))
        self._negative_ttl_ms = max(1, int(declaration.strategy.negative_ttl_s * 1000))

    def write(self, keys: Sequence[str], patches: Sequence[FlatPatch], *, seen: int, token: str, lease_us: int) -> Call:
        """Apply patches; an empty one deletes. Reply: `read_write`."""
        return Call(WRITE, keys, (self._fields, seen, _encode(patches), token, lease_us))

    def undo(self, keys: Sequence[str], writes: Sequence[tuple[Applied, FlatPatch]]) -> Call:
        """Take writes back. `writes` pairs what `read_write` gave with the patch that was sent."""
        blob = [[applied.version, applied.generation, patch, applied.undo] for applied, patch in writes]
        return Call(UNDO, keys, (self._fields, _encode(blob)))

    def refuse(self, keys: Sequence[str], rows: Sequence[Row]) -> Call:
        """Take back records that the database refused. What a field was before is not known: it leaves the entry."""
        writes: list[tuple[Applied, FlatPatch]] = []
        for row in rows:
            values = row[KEYS + len(self._declaration.keys) :]
            touched = [c for c in self._declaration.fields if row[MASK] & c.bit]
            patch = [(c.position, _sum(values[c.position], c.kind.to_cache)) for c in touched]
            nothing = msgspec.Raw(_encode([False] * (1 + len(touched))))  # neither bookkeeping nor values
            writes.append((Applied(row[VERSION], row[GENERATION], nothing), flat(patch)))
        script, keys, args = self.undo(keys, writes)
        return Call(script, keys, (*args, "1"))

    def lease(self, keys: Sequence[str], *, token: str, lease_us: int) -> Call:
        """Read entries that may have to be filled. Reply: `read_entries`."""
        return Call(LEASE, keys, (token, lease_us))

    def fill(self, keys: Sequence[str], rows: Sequence[tuple[bool, int, Patch]], *, token: str) -> Call:
        """Fill entries from rows: (exists, newest version, fields in cache form).

        Reply: a list of bool, by `read_flags`.
        """
        return Call(
            FILL,
            keys,
            (
                self._fields,
                token,
                self._ttl_ms,
                _encode([[exists, version, flat(row)] for exists, version, row in rows]),
                self._negative_ttl_ms,
            ),
        )

    def settle(self, keys: Sequence[str], settlement: Settlement) -> Call:
        """Lower pending counts after a commit. `keys` are the entries of `settlement`. Reply: `read_indexes`."""
        sums = [
            [_sum(value, column.kind.to_cache) for value in values]
            for column, values in zip(self._declaration.sums, settlement.sums, strict=True)
        ]
        blob = _encode([settlement.generations, settlement.counts, settlement.versions, sums])
        keep_parts = "0" if self._declaration.write_behind.on_missing == "skip" else "1"
        return Call(SETTLE, keys, (self._fields, self._ttl_ms, blob, keep_parts))

    def heal(self, keys: Sequence[str], rows: Sequence[Healthy], *, until_us: int) -> Call:
        """Set tainted entries right. until_us: when the rows are too old for it (microseconds, the cache's clock)."""
        keep = "1" if self._declaration.write_behind.deletes else "0"
        blob = [
            [exists, flat(row), [part for position, version in versions for part in (position + 1, version)], deleted]
            for exists, row, versions, deleted in rows
        ]
        return Call(HEAL, keys, (self._fields, keep, _encode(blob), until_us))


def doubt(keys: Sequence[str], versions: Sequence[int]) -> Call:
    """Put entries in doubt, or delete those that hold nothing newer than these versions, which the database has."""
    return Call(DOUBT, keys, (_encode(versions), DOUBT_TTL_S * 1000))


def forget(keys: Sequence[str]) -> Call:
    """Let go of write-behind entries whose rows another entity made or deleted. Any entities' keys."""
    return Call(FORGET, keys, ())


def read_write(reply: bytes) -> tuple[int, list[Applied | NeedsBase | OutOfRange]]:
    """The cache's clock in microseconds, and one answer per key."""
    return _decode_write(reply)


def read_entries(reply: bytes) -> list[Entry]:
    """Entries as `lease` read them."""
    return [Entry(_pairs(flat), granted) for granted, flat in _decode(reply)]


def read_flags(reply: bytes) -> list[bool]:
    """One bool per key."""
    return list(_decode(reply))


def read_indexes(reply: bytes) -> list[int]:
    """0-based indexes of keys."""
    return [index - 1 for index in _decode(reply)]


def to_cache(value: Any, encode: Any) -> str:
    """A Python value, or None, in cache form."""
    return CACHE_NULL if value is None else str(encode(value))


def _pairs(flat: Sequence[str]) -> dict[str, str]:
    return {flat[at]: flat[at + 1] for at in range(0, len(flat), 2)}


def flat(patch: Patch) -> list[int | str]:
    """A patch as the scripts take it."""
    return [part for position, value in patch for part in (position + 1, value)]


def _bound(value: Any) -> str:
    return "" if value is None else format(value, "f")


def _sum(value: Any, encode: Any) -> str:
    return "" if value is None else str(encode(value))

"""The cache scripts of cache-aside and write-through entities: what is sent, and what comes back. No I/O.

The protocol, in the order in which `lua/direct_*.lua` carry it out: `read` gives an entry, or the right to load it to
one reader; `fill` is refused when that right was voided. A writer first announces itself with `intend`, which empties
the entry and keeps everybody from filling it; then it writes the row; then `finish` clears its intent. A writer that
dies in between leaves a miss.
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from .scripts import Call, Script

READ, FILL, INTEND, FINISH = (Script.read("direct", f"direct_{name}") for name in ("read", "fill", "intend", "finish"))

_encode = msgspec.msgpack.Encoder().encode
_decode_flags = msgspec.msgpack.Decoder(list[bool]).decode
_decode_read = msgspec.msgpack.Decoder(list[tuple[int, list[str]]]).decode

How = Literal["put", "drop", "void", "undone"]
Fields = Sequence[str]  # name, value in cache form, name, value, ...


class State(enum.IntEnum):
    """What a reader may do with an entry."""

    HIT = 0
    LOAD = 1  # and fill; there may be fields as well, which are about to expire
    WAIT = 2  # somebody else loads
    BYPASS = 3  # read the database, and leave the entry alone


class Found(NamedTuple):
    """An entry as `read` gave it, its bookkeeping included."""

    state: State
    fields: dict[str, str]


class Filling(NamedTuple):
    """A row to put into its entry. `exists` is False for "there is no row".

    `load_us`: how long it took to load, in microseconds; 0 keeps the entry from being recomputed early.
    """

    exists: bool
    version: int
    ttl_ms: int
    fields: Fields
    load_us: int = 0


class Finishing(NamedTuple):
    """What a writer leaves behind. `version`: the row's, 0 where rows have none; `fields` only to be put."""

    token: str
    how: How
    ttl_ms: int = 1
    version: int = 0
    fields: Fields = ()


def earliness(beta: float) -> float:
    """The `early` of one read: random, so that of many readers one loads anew before the entry expires; 0 for beta 0.

    XFetch: Vattani, Chierichetti, Lowenstein, Optimal Probabilistic Cache Stampede Prevention, VLDB 2015.
    """
    return -beta * math.log(1 - random.random()) if beta else 0.0


def read(keys: Sequence[str], *, token: str, lease_us: int, early: float = 0.0) -> Call:
    """Read entries. `early` times the cost of a load is how much before its expiry an entry is loaded anew.

    Reply: `read_found`.
    """
    return Call(READ, keys, (token, lease_us, repr(early)))


def fill(keys: Sequence[str], rows: Sequence[Filling], *, token: str) -> Call:
    """Fill entries whose loading was left to us under this token. Reply: `read_flags`, False where it was voided."""
    blob = [["c" if r.exists else "n", _version(r.version), r.ttl_ms, r.load_us, r.fields] for r in rows]
    return Call(FILL, keys, (token, _encode(blob)))


def intend(keys: Sequence[str], tokens: Sequence[str], *, life_us: int) -> Call:
    """Announce writes, each under its token. Reply: `read_flags`, False where the cache is full and keeps none."""
    return Call(INTEND, keys, (life_us, _encode(tokens)))


def finish(keys: Sequence[str], writes: Sequence[Finishing]) -> Call:
    """End writes as `lua/direct_finish.lua` says. Reply: `read_flags`, True where the entry shows our row."""
    return Call(FINISH, keys, (_encode([[w.token, w.how, _version(w.version), w.ttl_ms, w.fields] for w in writes]),))


def void(keys: Sequence[str], tokens: Sequence[str] | None = None) -> Call:
    """Invalidate: the entries are emptied, and what readers or writers hold of them may not be put there any more.

    `tokens`: of intents to clear as well.
    """
    return finish(keys, [Finishing(token, "void") for token in tokens or ["-"] * len(keys)])


def read_found(reply: bytes) -> list[Found]:
    """Entries as `read` gave them."""
    return [Found(_STATES[state], dict(zip(flat[::2], flat[1::2], strict=True))) for state, flat in _decode_read(reply)]


def read_flags(reply: bytes) -> list[bool]:
    """One bool per key."""
    return _decode_flags(reply)


_STATES = tuple(State)


def _version(version: int) -> str:
    return f"{version:016d}"

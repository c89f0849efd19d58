"""What a cache entry knows beside its fields: the text of its hash field `#`. Its layout is told in `lua/entry.lua`.

The scripts read and write it; here it is read, by whoever looks at entries from outside. No I/O.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FIELD = "#"
CLEAN = 34  # the length of a text without pending writes, marks and lease

_HEADER = re.compile(r"(\d{16}) (\d{16})([pcnPCN])(\d*)((?: \S+)*)")


@dataclass(frozen=True, slots=True)
class Bookkeeping:
    """One entry's. Marks and sums by the short name of their field, see `short_names`.

    `lease` is the token of the reader who may fill, and when it was given; `doubted` are the generations before the
    entry was put in doubt (`lua/doubt.lua`), the newest last, none when it is not; `intents` are the writers of a
    cache-aside or write-through entry that are under way (`lua/direct.lua`).
    """

    version: int
    generation: int
    complete: bool
    row_exists: bool
    tainted: bool
    pending: int
    marks: Mapping[str, int]
    sums: Mapping[str, str]
    deleted_at: int | None
    lease: str | None
    intents: int = 0
    doubted: tuple[int, ...] = ()

    @property
    def present(self) -> bool:
        """False when nothing but a lease is known."""
        return self.version > 0 or self.complete


ABSENT = Bookkeeping(0, 0, False, True, False, 0, {}, {}, None, None)


def is_complete(fields: Mapping[str, str]) -> bool:
    """Whether an entry, as `HGETALL` gives it, says all there is to say: it needs no row."""
    return fields.get(FIELD, "")[33:34] in ("c", "n", "C", "N")


def of(fields: Mapping[str, str]) -> Bookkeeping:
    """An entry's, or an absent one's. `fields` as `HGETALL` gives them."""
    return read(fields[FIELD]) if FIELD in fields else ABSENT


def read(header: str) -> Bookkeeping:
    """Raises ValueError for what is none."""
    match = _HEADER.fullmatch(header)
    if match is None:
        raise ValueError("not the bookkeeping of a cache entry")
    version, generation, flag, pending, parts = match.groups()
    marks: dict[str, int] = {}
    sums: dict[str, str] = {}
    deleted_at = lease = None
    intents = 0
    doubted: tuple[int, ...] = ()
    for part in parts.split():
        match part[0]:
            case "=":
                marks.update(dict.fromkeys(_ids(part[1:]), int(version)))
            case "@":
                marks.update(dict.fromkeys(_ids(part[17:]), int(part[1:17])))
            case "+":
                sums[part[1:4]] = part[4:]
            case "d":
                deleted_at = int(part[1:])
            case "h":
                doubted = tuple(int(part[at : at + 16]) for at in range(1, len(part), 16))
            case "i" | "j":
                intents += 1
            case "u" | "x":
                pass  # an undo's taint, which healing keeps; when to recompute early
            case _:
                lease = part[1:]
    holds = flag.lower()
    return Bookkeeping(
        version=int(version),
        generation=int(generation),
        complete=holds != "p",
        row_exists=holds != "n",
        tainted=holds != flag,
        pending=int(pending or 0),
        marks=marks,
        sums=sums,
        deleted_at=deleted_at,
        lease=lease,
        intents=intents,
        doubted=doubted,
    )


def short_names(names: Sequence[str]) -> list[str]:
    """Three characters for each field: short, so that an entry stays small, and by name, so that they outlive a change
    of the declaration. Two that meet (one of a thousand declarations of twenty fields) are told apart by their order.
    """
    found: dict[str, str] = {}
    for name in names:
        text = name
        while (short := _short(text)) in found:
            text += "'"
        found[short] = name
    return list(found)


def _short(text: str) -> str:
    return base64.urlsafe_b64encode(zlib.crc32(text.encode()).to_bytes(4))[:3].decode()


def _ids(text: str) -> list[str]:
    return [text[at : at + 3] for at in range(0, len(text), 3)]

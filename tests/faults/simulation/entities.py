"""What the simulation writes: values that tell which write they came from, and how often it was applied."""

from __future__ import annotations

from typing import Annotated, Any

from writebehind.shared.declaration import Declaration, declaration_of
from writebehind.shared.entity import Entity, Key, Max, Merge, Sum, WriteBehind
from writebehind.shared.table import ColumnInfo, TableInfo

POISON = "x"  # the table refuses a text that starts with this
WRITES_MAX = 28  # a sum holds one digit of base 4 per write, and must fit 64 bits


class _Fields(Entity, abstract=True):
    id: Annotated[int, Key]
    name: str | None = None
    note: str | None = None
    score: Annotated[int, Sum] = 0
    best: Annotated[int | None, Max] = None


class Lasting(_Fields, table="lasting", strategy=WriteBehind(flush_delay_s=0.02, ttl_s=60)):
    """Never deleted."""


class Mortal(_Fields, table="mortal", strategy=WriteBehind(flush_delay_s=0.02, ttl_s=60, deletes=True)):
    """Deleted now and then."""


DECLARATIONS = {False: declaration_of(Lasting), True: declaration_of(Mortal)}  # by whether there are deletes
DEFAULTS: dict[str, Any] = {"name": None, "note": None, "score": 0, "best": None}  # of a row of the table
OLD_ROW: dict[str, Any] = {"name": "old", "note": None, "score": 0, "best": -1}  # of a row that is there before


def slots(declaration: Declaration) -> dict[str, int]:
    """Each versioned field's place in the row's array."""
    return {column.name: place for place, column in enumerate(declaration.versioned, 1)}


def table_info(declaration: Declaration) -> TableInfo:
    """The table as its catalog would describe it."""
    columns = {c.name: _column(c.name, c.kind.name, DEFAULTS.get(c.name)) for c in declaration.by_name.values()}
    return TableInfo("public", declaration.table, columns, frozenset({frozenset({"id"})}))


def _column(name: str, type_name: str, default: Any) -> ColumnInfo:
    return ColumnInfo(name, type_name, type_name, True, None if default is None else str(default), False, None)


def value(field: str, number: int, *, poison: bool = False) -> Any:
    """The value that write `number` gives to a field."""
    if field == "score":
        return 4**number
    if field == "best":
        return number * 11 % 31
    return f"{POISON if poison else 'v'}{number}"


def times_applied(score: int, number: int) -> int:
    """How often write `number` is in a sum, if that is less than four times."""
    return score // (1 << 2 * number) % 4


def combines(declaration: Declaration, field: str) -> bool:
    """Whether writes of a field combine, instead of the newest replacing the others."""
    return declaration.by_name[field].merge is not Merge.LAST

"""Smells that only the catalog shows: columns nobody owns, and changes that go past every strategy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from writebehind.shared import table
from writebehind.shared.declaration import Declaration
from writebehind.shared.strategy import WriteBehind
from writebehind.shared.table import TableInfo

from .facts import Smell


@dataclass(frozen=True, slots=True)
class Writer:
    """Something in the database that changes rows by itself."""

    kind: Literal["trigger", "foreign key"]
    name: str
    does: str


@dataclass(frozen=True, slots=True)
class Look:
    """What the catalog says of a table. `info` None: there is no such table."""

    info: TableInfo | None
    writers: Sequence[Writer] = ()


def of_look(name: str, declarations: Sequence[Declaration], look: Look) -> Iterator[Smell]:
    """The smells of a table that the entities share."""
    for declaration in declarations:
        for problem in table.problems(declaration, look.info):
            why = "writes to it fail, are refused or are stored as something else"
            yield Smell("not-as-declared", declaration.name, problem.message, why, problem.fix)
        if look.info is not None:
            yield from unfillable(declaration, look.info)
    if look.info is not None and (nobodys := unowned(declarations, look.info)):
        yield Smell(
            "unowned-columns",
            name,
            f"no entity owns {', '.join(nobodys)}",
            "nobody picked a strategy for them: whoever caches them has to invalidate by hand, and no read through the "
            "library shows them",
            "declare them in the entity whose strategy fits, or accept this if nothing caches them",
        )
    for writer in look.writers:
        yield _past_the_library(name, writer)


def unowned(declarations: Sequence[Declaration], info: TableInfo) -> list[str]:
    """The columns that no entity has, in the table's order."""
    owned = {name for d in declarations for name in d.by_name}
    owned |= {d.version_column.name for d in declarations if d.version_column is not None}
    return [name for name in info.columns if name not in owned]


def unfillable(declaration: Declaration, info: TableInfo) -> Iterator[Smell]:
    """Columns that keep a late write from making its row."""
    if not isinstance(declaration.strategy, WriteBehind) or declaration.strategy.on_missing != "insert":
        return
    keys = {c.name for c in declaration.keys}
    bare = [
        c.name for c in info.columns.values() if not (c.nullable or c.default_expr or c.generated or c.name in keys)
    ]
    # A column of another's makes every new row fail; one of ours only the first patch that leaves it out.
    always = [name for name in bare if name not in declaration.by_name]
    if bare:
        when = f"every first write of a row: {', '.join(always)}" if always else "a first write without all of them"
        yield Smell(
            "no-default",
            declaration.name,
            f"NOT NULL and no default: {', '.join(bare)}",
            f"a missing row is made from the table's defaults; the database refuses {when}; each is a dead letter",
            "a DEFAULT for each, or on_missing='skip' or 'dead_letter' when the rows are made elsewhere",
        )


def _past_the_library(name: str, writer: Writer) -> Smell:
    if writer.kind == "trigger":
        why = (
            "what it changes is in the row and not in the entry: a read shows what was written until the entry expires"
        )
        do = "move what it does into the declaration or the service, or accept this if it changes no declared column"
    else:
        why = "the database changes these rows in no entity's name: their entries stay as they were until they expire"
        do = "NO ACTION, and write such rows through their entity; or invalidate their entries when it happens"
    return Smell("past-the-library", name, f"{writer.kind} {writer.name} {writer.does}", why, do)

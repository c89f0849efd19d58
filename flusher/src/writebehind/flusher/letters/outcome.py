"""What becomes of a letter that is replayed. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg

from writebehind.shared.entity import Merge
from writebehind.shared.record import DELETE, KEYS, MASK
from writebehind.shared.statement import ROW_MISSING

from ..triage import Verdict, triage
from .validate import Valid


class Outcome(enum.StrEnum):
    """APPLIED: the row has it. SUPERSEDED: all it says is older than what the row has. REFUSED: the database refused it
    again. REJECTED: it was not tried. CLOSED: somebody else closed it meanwhile.
    """

    APPLIED = "applied"
    SUPERSEDED = "superseded"
    REFUSED = "refused"
    REJECTED = "rejected"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Result:
    """An outcome, and why. The reason holds no values of the row."""

    outcome: Outcome
    reason: str | None = None


NO_ROW = "there is no row, and the entity's on_missing makes none: insert the row first, or discard the letter"


def judge(letter: Valid, slots: Mapping[str, int], versions: Mapping[int, int | None] | None, tombstone: int) -> Result:
    """What became of a letter that went through fold and guard without an error.

    `versions` are the row's by slot, after the write; None: there is no row. `tombstone` is the version of the key's
    last delete, 0 when there was none.
    """
    declaration, mask = letter.declaration, letter.row[MASK]
    # 1. A newer delete takes everything older with it, sums too.
    if tombstone > letter.version:
        return Result(Outcome.SUPERSEDED, "the row was deleted later")
    # 2. A delete is done when its tombstone stands.
    if mask == DELETE:
        return Result(Outcome.APPLIED)
    # 3. The patch had no row to go to.
    if versions is None:
        return Result(Outcome.REFUSED, NO_ROW)
    # 4. A sum, a maximum or a minimum is in the row whatever else is; of Last fields one must be as new as the letter.
    touched = [c for c in declaration.fields if mask & c.bit]
    if all(c.merge is Merge.LAST and (versions.get(slots[c.name]) or 0) > letter.version for c in touched):
        return Result(Outcome.SUPERSEDED, "every field it sets was set later")
    return Result(Outcome.APPLIED)


def split(letters: Sequence[Valid]) -> list[list[Valid]]:
    """Smaller parts of letters that the database refused together; empty when there is one only.

    Keys first: a check may hold for all letters of a key together and for none alone.
    """
    if len(letters) == 1:
        return []
    by_key: dict[str, list[Valid]] = {}
    for letter in letters:
        by_key.setdefault(letter.key_text, []).append(letter)
    return list(by_key.values()) if len(by_key) > 1 else [[letter] for letter in letters]


def order(letters: Sequence[Valid]) -> list[Valid]:
    """By key, so that rows are locked as a flusher locks them; a key's letters in the order of their versions."""
    width = len(letters[0].declaration.keys) if letters else 0
    return sorted(letters, key=lambda letter: (letter.row[KEYS : KEYS + width], letter.version))


def refusal(error: BaseException) -> str | None:
    """Why the database refused a letter, in words without values; None when the data is not at fault."""
    state = getattr(error, "sqlstate", None)
    # A unique index is hit by the data. On the key itself it may also be a stranger's insert at that moment: the letter
    # stays, and the next replay updates that row.
    if triage(error) is not Verdict.POISON and state != "23505":
        return None
    if state == ROW_MISSING:
        return NO_ROW
    parts = [f"SQLSTATE {state}" if state else type(error).__name__]
    if isinstance(error, psycopg.Error):
        named = {"constraint": error.diag.constraint_name, "column": error.diag.column_name}
        parts += [f"{what} {name}" for what, name in named.items() if name]
    return ", ".join(parts)

"""Who wrote what, as the database saw it: a zombie run's rows come from the flusher that owns their partition. Pure.

The database notes every claim of a partition, every move of its progress and every row, in an order that is that of the
commits per partition and per row, because all three are written under the row's lock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

Place = tuple[str, int]  # topic and partition, or table and key


class Kind(StrEnum):
    """What a note is about."""

    CLAIM = "claim"  # a partition has a new owner, under a greater epoch
    FLUSH = "flush"  # a partition's progress moved, and the same transaction writes the rows
    ROW = "row"


@dataclass(frozen=True, slots=True)
class Note:
    """One committed write. `writer` is which flusher's connection it came by, whatever that flusher believed to own.

    `epoch` is 0 for a row. `value` only ever grows: a partition's next offset, a row's sum or version.
    """

    kind: Kind
    writer: int
    transaction: int
    place: Place
    epoch: int
    value: int


@dataclass(slots=True)
class Findings:
    """What is wrong. Rows count those of tables and of progress."""

    rows_from_old_owner: int = 0
    gone_back: int = 0
    examples: list[str] = field(default_factory=list)


def check_owners(notes: Iterable[Note]) -> Findings:
    """Every write must be in a transaction that moves the progress of partitions which its writer claimed last."""
    found = Findings()
    owners: dict[Place, tuple[int, int]] = {}  # writer and epoch of the newest claim
    flushed: defaultdict[int, set[Place]] = defaultdict(set)  # by transaction
    newest: dict[Place, int] = {}
    for note in notes:
        wrong: list[str] = []
        if note.kind is Kind.CLAIM:
            if note.epoch <= owners.get(note.place, (0, 0))[1]:
                wrong.append("the epoch went back")
            owners[note.place] = (note.writer, note.epoch)
        elif note.kind is Kind.FLUSH:
            flushed[note.transaction].add(note.place)
            if owners.get(note.place) != (note.writer, note.epoch):
                found.rows_from_old_owner += 1
                found.examples.append(f"{note}: its owner is {owners.get(note.place)}")
        else:
            places = flushed.get(note.transaction, set())
            if not places or any(owners.get(place, (-1, 0))[0] != note.writer for place in places):
                found.rows_from_old_owner += 1
                found.examples.append(f"{note}: {[(place, owners.get(place)) for place in places]}")
        if note.value < newest.get(note.place, note.value):
            wrong.append(f"{newest[note.place]} went back")
        newest[note.place] = note.value
        if wrong:
            found.gone_back += 1
            found.examples.append(f"{note}: {', '.join(wrong)}")
    return found

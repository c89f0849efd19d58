"""A batch was refused: write all of it but the records at fault.

1. Keys are split until the bad ones stand alone. What passes on the way stays, so that of two keys that exclude each
   other one is kept.
2. Each bad key is tried again when everything that passes is in place: one that needs another of the batch, such as a
   child its parent, may have been tried before it.
3. Of a key that is still refused each record is tried, in the order of their versions, so that a good increment does
   not become a letter because of its neighbour.

Nothing that passed is tried again: a delta would count twice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from writebehind.shared.declaration import Declaration
from writebehind.shared.fold import Folded, fold
from writebehind.shared.record import KEYS, VERSION, Row

from .bisect import Stretch, isolate


class Refusal(NamedTuple):
    """Why a part is refused, and how many of its rows the database had written by then; 0 when it does not tell."""

    error: BaseException
    written: int


Attempt = Callable[[Iterable[Folded]], Sequence[Refusal | None]]  # writes parts; tells of each why it is refused


def write_all_but_refused(
    declaration: Declaration, rows: Sequence[Row], tombstones: Mapping[str, int], attempt: Attempt
) -> dict[int, BaseException]:
    """The indexes of refused rows, each with its error. What is not the data's fault is raised by `attempt`."""
    groups = _by_key(declaration, rows)
    parts = _Parts(fold(declaration, rows, tombstones), list(groups))

    def failures(stretches: Sequence[Stretch]) -> list[int | None]:
        refusals = attempt(map(parts.cut, stretches))
        return [refusal and parts.place(at, refusal.written) for at, refusal in zip(stretches, refusals, strict=True)]

    suspects = isolate(len(groups), failures)
    refusals = attempt(parts.cut((at, at + 1)) for at in suspects)
    records = list(groups.values())
    bad = [(records[at], refusal.error) for at, refusal in zip(suspects, refusals, strict=True) if refusal]
    several = [index for group, _ in bad if len(group) > 1 for index in group]
    alone = attempt(fold(declaration, [rows[index]], tombstones) for index in several)
    return {group[0]: error for group, error in bad if len(group) == 1} | {
        index: refusal.error for index, refusal in zip(several, alone, strict=True) if refusal
    }


def _by_key(declaration: Declaration, rows: Sequence[Row]) -> dict[tuple[Any, ...], list[int]]:
    """Indexes of the rows of each key, by version; keys in the order in which the statement locks them."""
    end = KEYS + len(declaration.keys)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index in sorted(range(len(rows)), key=lambda index: (rows[index][KEYS:end], rows[index][VERSION])):
        groups.setdefault(rows[index][KEYS:end], []).append(index)
    return groups


class _Parts:
    """Takes a folded batch apart along its keys, of which each left a row, a delete, both or nothing."""

    def __init__(self, folded: Folded, keys: Sequence[tuple[Any, ...]]) -> None:
        written, deleted = set(zip(*folded.keys, strict=True)), {key for key, _ in folded.deletes}
        self._folded = folded
        self._row_at = list(accumulate((key in written for key in keys), initial=0))
        self._delete_at = list(accumulate((key in deleted for key in keys), initial=0))

    def cut(self, stretch: Stretch) -> Folded:
        start, end = stretch
        folded = self._folded
        rows = slice(self._row_at[start], self._row_at[end])
        keys, values, versions = (_sliced(part, rows) for part in (folded.keys, folded.values, folded.versions))
        return Folded(keys, values, versions, folded.deletes[self._delete_at[start] : self._delete_at[end]])

    def place(self, stretch: Stretch, written: int) -> int:
        """The key of the row that comes after so many; the stretch's start when they do not say."""
        start, end = stretch
        if written == 0 or self._delete_at[start] != self._delete_at[end]:
            return start
        return bisect_right(self._row_at, self._row_at[start] + written) - 1


def _sliced(columns: Sequence[Sequence[Any]], rows: slice) -> list[Sequence[Any]]:
    """A slice of each column; what was one column stays one, and is packed once."""
    slices = {id(column): column[rows] for column in columns}
    return [slices[id(column)] for column in columns]

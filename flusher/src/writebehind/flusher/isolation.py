"""A batch was refused: which of its records are at fault? Found in a transaction that is rolled back.

1. Keys are split until the bad ones stand alone. What passes on the way stays, so that of two keys that exclude each
   other one is kept.
2. Each bad key is tried again when everything that passes is in place: one that needs another of the batch, such as a
   child its parent, may have been tried before it.
3. Of a key that is still refused each record is tried, in the order of their versions, so that a good increment does
   not become a letter because of its neighbour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from writebehind.shared.declaration import Declaration
from writebehind.shared.fold import Folded, fold
from writebehind.shared.record import KEYS, VERSION, Row

from .bisect import Stretch, isolate

Attempt = Callable[
    [Iterable[Folded]], Sequence[BaseException | None]
]  # writes parts; tells why each is refused, or None


def find_refused(
    declaration: Declaration,
    rows: Sequence[Row],
    tombstones: Mapping[str, int],
    attempt: Attempt,
    *,
    one_by_one: bool = False,
) -> dict[int, BaseException]:
    """The indexes of refused rows, each with its error. What is not the data's fault is raised by `attempt`.

    one_by_one: try each key on its own, in order, as the batch's statement does. For a batch that was searched before
        and is refused all the same: its keys depend on each other.
    """
    groups = _by_key(declaration, rows)
    cut = _cutter(fold(declaration, rows, tombstones), list(groups))

    def refusals(stretches: Iterable[Stretch]) -> Sequence[BaseException | None]:
        return attempt(map(cut, stretches))

    def passes(stretches: Iterable[Stretch]) -> list[bool]:
        return [error is None for error in refusals(stretches)]

    suspects = range(len(groups)) if one_by_one else isolate(len(groups), passes)
    errors = refusals((at, at + 1) for at in suspects)
    records = list(groups.values())
    bad = [(records[at], error) for at, error in zip(suspects, errors, strict=True) if error is not None]
    several = [index for group, _ in bad if len(group) > 1 for index in group]
    alone = attempt(fold(declaration, [rows[index]], tombstones) for index in several)
    found = {index: error for index, error in zip(several, alone, strict=True) if error is not None}
    for group, error in bad:
        # A single record was tried. Or each passes alone and together they do not, such as deltas whose sum has no
        # encoding: they share their fate.
        if found.keys().isdisjoint(group):
            found |= dict.fromkeys(group, error)
    return found


def _by_key(declaration: Declaration, rows: Sequence[Row]) -> dict[tuple[Any, ...], list[int]]:
    """Indexes of the rows of each key, by version; keys in the order in which the statement locks them."""
    end = KEYS + len(declaration.keys)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index in sorted(range(len(rows)), key=lambda index: (rows[index][KEYS:end], rows[index][VERSION])):
        groups.setdefault(rows[index][KEYS:end], []).append(index)
    return groups


def _cutter(folded: Folded, keys: Sequence[tuple[Any, ...]]) -> Callable[[Stretch], Folded]:
    """Takes a folded batch apart along its keys, of which each left a row, a delete, both or nothing."""
    written, deleted = set(zip(*folded.keys, strict=True)), {key for key, _ in folded.deletes}
    row_at = list(accumulate((key in written for key in keys), initial=0))
    delete_at = list(accumulate((key in deleted for key in keys), initial=0))

    def cut(stretch: Stretch) -> Folded:
        start, end = stretch
        rows, deletes = slice(row_at[start], row_at[end]), slice(delete_at[start], delete_at[end])
        keys, values, versions = (_sliced(part, rows) for part in (folded.keys, folded.values, folded.versions))
        return Folded(keys, values, versions, folded.deletes[deletes])

    return cut


def _sliced(columns: Sequence[Sequence[Any]], rows: slice) -> list[Sequence[Any]]:
    """A slice of each column; what was one column stays one, and is packed once."""
    slices = {id(column): column[rows] for column in columns}
    return [slices[id(column)] for column in columns]

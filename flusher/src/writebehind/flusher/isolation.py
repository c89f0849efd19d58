"""A batch was refused: which of its records are at fault? Found in a transaction that is rolled back.

Keys are halved until the bad ones stand alone; of a bad key with several records each is tried in the order of their
versions, so that a good increment does not become a letter because of its neighbour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from writebehind.shared.declaration import Declaration
from writebehind.shared.fold import key_getter
from writebehind.shared.record import VERSION, Row

from .bisect import isolate

Attempt = Callable[[Sequence[Row]], BaseException | None]  # writes rows; returns why they are refused, or None


def find_refused(declaration: Declaration, rows: Sequence[Row], attempt: Attempt) -> dict[int, BaseException]:
    """The indexes of refused rows, each with its error. What is not the data's fault is raised by `attempt`."""
    groups = _by_key(declaration, rows)
    errors: dict[int, BaseException] = {}  # of the stretch that starts at a group and was tried alone

    def passes(start: int, end: int) -> bool:
        error = attempt([rows[index] for group in groups[start:end] for index in group])
        if error is not None and end - start == 1:
            errors[start] = error
        return error is None

    refused: dict[int, BaseException] = {}
    for at in isolate(len(groups), passes):
        refused |= _of_one_key(groups[at], rows, errors[at], attempt)
    return refused


def _of_one_key(
    group: Sequence[int], rows: Sequence[Row], error: BaseException, attempt: Attempt
) -> dict[int, BaseException]:
    if len(group) == 1:
        return {group[0]: error}
    found = {index: why for index in group if (why := attempt([rows[index]])) is not None}
    # Each passes alone, and together they do not, such as deltas whose sum has no encoding: they share their fate.
    return found or dict.fromkeys(group, error)


def _by_key(declaration: Declaration, rows: Sequence[Row]) -> list[list[int]]:
    """Indexes of the rows of each key, by version; keys in the order in which the statement locks them."""
    key_of = key_getter(declaration)
    groups: dict[object, list[int]] = {}
    for index in sorted(range(len(rows)), key=lambda index: (key_of(rows[index]), rows[index][VERSION])):
        groups.setdefault(key_of(rows[index]), []).append(index)
    return list(groups.values())

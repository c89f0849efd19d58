"""Fold: many records of a batch become one row per key. The heart of the flusher; pure.

Every `Last` field is decided by its own highest version, `Sum` deltas are added, `Max` and `Min` candidates combined,
and a
delete takes with it whatever is older than itself. The result does not depend on the order or grouping of distinct
records.
Work is done on columns: a batch whose keys are all distinct, the common case, costs no Python per row.
"""

from __future__ import annotations

import decimal
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .declaration import Column, Declaration
from .entity import Merge
from .record import DELETE, GENERATION, KEYS, MASK, VERSION, Row

# Postgres' numeric holds more digits than decimal's default context, which would round a sum to 28 of them.
_EXACT = decimal.Context(prec=4000, traps=[decimal.Inexact, decimal.InvalidOperation])


@dataclass(slots=True)
class Settlement:
    """What the cache is told after the commit, as columns; one entry per key and generation.

    `counts` records were flushed, `versions` the newest of them; `sums` holds per `Sum` field what was added
    (None: nothing).
    """

    keys: list[str]
    generations: list[int]
    counts: list[int]
    versions: list[int]
    sums: list[list[Any]]

    def parts(self, size: int) -> list[Settlement]:
        """The same in pieces of so many entries."""
        pieces = [slice(start, start + size) for start in range(0, len(self.keys), size)]
        return [
            Settlement(
                self.keys[piece],
                self.generations[piece],
                self.counts[piece],
                self.versions[piece],
                [column[piece] for column in self.sums],
            )
            for piece in pieces
        ]


@dataclass(slots=True)
class Folded:
    """One row per key, sorted by key, as the statement's columns.

    `keys` and `values` hold one sequence per key column and per field (None: left out, or NULL when it has a version);
    `versions` one per versioned field (None: left out). `deletes` are (key, version); a key may be in both.
    """

    keys: list[Sequence[Any]] = field(default_factory=list)
    values: list[Sequence[Any]] = field(default_factory=list)
    versions: list[Sequence[int | None]] = field(default_factory=list)
    deletes: list[tuple[tuple[Any, ...], int]] = field(default_factory=list)
    settlement: Settlement = field(default_factory=lambda: Settlement([], [], [], [], []))

    @property
    def rows(self) -> int:
        return len(self.keys[0]) if self.keys else 0


def fold(declaration: Declaration, rows: Sequence[Row], tombstones: Mapping[str, int] | None = None) -> Folded:
    """Fold decoded rows of one declaration.

    `tombstones` gives, by key text, the version of the key's last known delete.
    """
    key_of = key_getter(declaration)
    if declaration.write_behind.deletes:
        return _fold_with_deletes(declaration, rows, key_of, tombstones or {})
    keys = list(map(key_of, rows))
    distinct = len(set(keys))
    if distinct == len(keys):
        return _to_columns(declaration, sorted(rows, key=key_of), {})
    if distinct > len(keys) // 2:
        return _fold_few(declaration, sorted(rows, key=key_of), key_of)
    merged: list[Row] = []
    groups: dict[int, Group] = {}
    for group in _by_key(rows, keys):
        _append(declaration, group, merged, groups)
    return _to_columns(declaration, merged, groups)


def _fold_few(declaration: Declaration, ordered: list[Row], key_of: Callable[[Row], Any]) -> Folded:
    """Fold rows sorted by key of which few share one: stretches without a repeat are copied whole."""
    keys = list(map(key_of, ordered))
    repeats = [*map(operator.eq, keys, keys[1:]), False]  # repeats[i]: row i + 1 has the key of row i
    merged: list[Row] = []
    groups: dict[int, Group] = {}
    start = 0
    while (first := _find(repeats, start)) is not None:
        end = repeats.index(False, first) + 1
        merged += ordered[start:first]
        _append(declaration, ordered[first:end], merged, groups)
        start = end
    merged += ordered[start:]
    return _to_columns(declaration, merged, groups)


def _find(repeats: list[bool], start: int) -> int | None:
    try:
        return repeats.index(True, start)
    except ValueError:
        return None


def _append(declaration: Declaration, group: Sequence[Row], merged: list[Row], groups: dict[int, Group]) -> None:
    if len(group) == 1:
        merged.append(group[0])
        return
    folded = _merge_group(declaration, group)
    groups[len(merged)] = folded
    merged.append(folded.row)


@dataclass(slots=True)
class Group:
    """The records of one key, merged. `versions` is None when every field of the row has the row's own version."""

    row: Row
    versions: list[int | None] | None
    settled: list[tuple[int, int, int, list[Any]]]  # generation, count, newest version, sums


def key_getter(declaration: Declaration) -> Callable[[Row], Any]:
    """A function from a row to its key: a value, or a tuple for a composite key."""
    columns = len(declaration.keys)
    return operator.itemgetter(KEYS) if columns == 1 else operator.itemgetter(slice(KEYS, KEYS + columns))


def _by_key(rows: Sequence[Row], keys: Sequence[Any]) -> list[list[Row]]:
    """The rows of each key, in the order of the keys: two flushers that lock rows in one order cannot deadlock."""
    groups: dict[Any, list[Row]] = {}
    for key, row in zip(keys, rows, strict=True):
        group = groups.get(key)
        if group is None:
            groups[key] = [row]
        else:
            group.append(row)
    return [groups[key] for key in sorted(groups)]


def _merge_group(declaration: Declaration, group: Sequence[Row]) -> Group:
    first = KEYS + len(declaration.keys)
    versions = [row[VERSION] for row in group]
    newest = max(versions)
    masks = {row[MASK] for row in group}
    if len(masks) == 1 and versions.count(newest) == 1:
        # Every record touches the same fields, so one of them is the newest of each.
        row = group[versions.index(newest)]
        if declaration.combining:
            merged = list(row)
            for c in declaration.combining:
                merged[first + c.position] = _combine(c, [row[first + c.position] for row in group])
            row = tuple(merged)
        return Group(row, None, _settled(declaration, group))
    values: list[Any] = []
    by_field: list[int | None] = []
    for c in declaration.fields:
        column = [row[first + c.position] for row in group]
        winner, version = _newest(c, column, versions, [row[MASK] for row in group])
        values.append(winner if c.merge is Merge.LAST else _combine(c, column))
        by_field.append(version)
    mask = functools.reduce(operator.or_, masks)
    row = (group[0][0], newest, group[0][GENERATION], mask, *group[0][KEYS:first], *values)
    return Group(row, [by_field[c.position] for c in declaration.versioned], _settled(declaration, group))


def _newest(
    column: Column, values: Sequence[Any], versions: Sequence[int], masks: Sequence[int]
) -> tuple[Any, int | None]:
    bit = column.bit
    touching = [(version, value) for version, value, mask in zip(versions, values, masks, strict=True) if mask & bit]
    if not touching:
        return None, None
    newest = max(touching, key=operator.itemgetter(0))[0]
    winners = [value for version, value in touching if version == newest]
    # Two writes of one version can only come from two clients that could not reach the cache. Any fixed choice will do,
    # as long as it does not depend on the order of arrival.
    return (winners[0] if len(winners) == 1 else max(winners, key=repr)), newest


def _combine(column: Column, values: Sequence[Any]) -> Any:
    present = [value for value in values if value is not None] if None in values else values
    if not present:
        return None
    if column.merge is Merge.SUM:
        return exact_sum(present)
    return max(present) if column.merge is Merge.MAX else min(present)


def exact_sum(values: Sequence[Any]) -> Any:
    """The sum of ints, or of Decimals without rounding."""
    if type(values[0]) is int:
        return sum(values)
    return functools.reduce(_EXACT.add, values)


def _settled(declaration: Declaration, group: Sequence[Row]) -> list[tuple[int, int, int, list[Any]]]:
    by_generation: dict[int, list[Row]] = {}
    if len({row[GENERATION] for row in group}) == 1:
        by_generation[group[0][GENERATION]] = list(group)
    else:
        for row in group:
            by_generation.setdefault(row[GENERATION], []).append(row)
    first = KEYS + len(declaration.keys)
    settled: list[tuple[int, int, int, list[Any]]] = []
    for generation, rows in by_generation.items():
        sums = [_combine(c, [row[first + c.position] for row in rows]) for c in declaration.sums]
        settled.append((generation, len(rows), max(row[VERSION] for row in rows), sums))
    return settled


def _fold_with_deletes(
    declaration: Declaration, rows: Sequence[Row], key_of: Callable[[Row], Any], tombstones: Mapping[str, int]
) -> Folded:
    width = len(declaration.keys)
    merged: list[Row] = []
    groups: dict[int, Group] = {}
    deletes: list[tuple[tuple[Any, ...], int]] = []
    dead: list[
        tuple[str, list[tuple[int, int, int, list[Any]]]]
    ] = []  # keys with no row left to write, still to be settled
    for group in _by_key(rows, list(map(key_of, rows))):
        key = group[0][KEYS : KEYS + width]
        text = declaration.key_text(key)
        deleted = max((row[VERSION] for row in group if row[MASK] == DELETE), default=0)
        if deleted > tombstones.get(text, 0):
            deletes.append((key, deleted))
        deleted = max(deleted, tombstones.get(text, 0))
        alive = [row for row in group if row[VERSION] > deleted]
        if not alive:
            dead.append((text, _settled(declaration, group)))
            continue
        folded = _merge_group(declaration, alive)
        folded.settled = _settled(declaration, group)
        groups[len(merged)] = folded
        merged.append(folded.row)
    result = _to_columns(declaration, merged, groups)
    result.deletes = deletes
    for text, settled in dead:
        for entry in settled:
            _add(result.settlement, text, entry)
    return result


def _to_columns(declaration: Declaration, rows: Sequence[Row], groups: Mapping[int, Group]) -> Folded:
    if not rows:
        return Folded(settlement=Settlement([], [], [], [], [[] for _ in declaration.sums]))
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
    width = len(declaration.keys)
    keys, values = columns[KEYS : KEYS + width], columns[KEYS + width :]
    versions = _version_columns(declaration, columns[VERSION], columns[MASK], groups)
    return Folded(keys, values, versions, [], _settlement(declaration, keys, columns, groups))


def _version_columns(
    declaration: Declaration, versions: Sequence[int], masks: Sequence[int], groups: Mapping[int, Group]
) -> list[Sequence[int | None]]:
    own = {index: group.versions for index, group in groups.items() if group.versions is not None}
    if not own and masks.count(masks[0]) == len(masks):
        # One column for all fields, which is then packed once. A group without versions has those of its row.
        absent = [None] * len(versions)
        return [versions if masks[0] & c.bit else absent for c in declaration.versioned]
    columns = [
        [version if mask & c.bit else None for version, mask in zip(versions, masks, strict=True)]
        for c in declaration.versioned
    ]
    for index, fields in own.items():
        for column, version in zip(columns, fields, strict=True):
            column[index] = version
    return list(columns)


def _settlement(
    declaration: Declaration,
    keys: Sequence[Sequence[Any]],
    columns: Sequence[Sequence[Any]],
    groups: Mapping[int, Group],
) -> Settlement:
    first = KEYS + len(keys)
    texts = declaration.key_texts(keys)
    settlement = Settlement(
        texts,
        list(columns[GENERATION]),
        [1] * len(texts),
        list(columns[VERSION]),
        [list(columns[first + c.position]) for c in declaration.sums],
    )
    for index, group in groups.items():
        (generation, count, version, sums), *others = group.settled
        settlement.generations[index], settlement.counts[index], settlement.versions[index] = generation, count, version
        for column, value in zip(settlement.sums, sums, strict=True):
            column[index] = value
        for entry in others:
            _add(settlement, texts[index], entry)
    return settlement


def _add(settlement: Settlement, text: str, entry: tuple[int, int, int, list[Any]]) -> None:
    generation, count, version, sums = entry
    settlement.keys.append(text)
    settlement.generations.append(generation)
    settlement.counts.append(count)
    settlement.versions.append(version)
    for column, value in zip(settlement.sums, sums, strict=True):
        column.append(value)

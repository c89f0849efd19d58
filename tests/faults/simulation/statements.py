"""The flusher's statements by their text, and what each does to the database in memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from psycopg import errors

from .database import Database, Transaction
from .table import deleted, is_refused, merged, reset

Rows = list[tuple[Any, ...]]
Run = Callable[[Database, Transaction, Sequence[Any]], Rows]


@functools.lru_cache(maxsize=200)
def known(text: str) -> tuple[str, Run]:
    """The name of a statement, as a point of the plan, and what runs it."""
    for start, part, point, run in _KNOWN:
        if text.startswith(start) and part in text:
            return point, run
    raise NotImplementedError(f"the simulation does not know this statement: {text}")


def _advance(database: Database, transaction: Transaction, params: Sequence[Any]) -> Rows:
    for _topic, *span in zip(*params, strict=True):
        database.advance(transaction, *span)
    return []


def _merge(database: Database, transaction: Transaction, params: Sequence[Any]) -> Rows:
    declaration = database.declaration
    fields = len(declaration.fields)
    for key, *rest in zip(*params, strict=True):
        database.lock(transaction, ("row", key))
        row = merged(declaration, database.row(transaction, key), rest[:fields], rest[fields:])
        if is_refused(row):
            raise errors.CheckViolation("new row violates check constraint")
        transaction.staged.rows[key] = row
    return []


def _delete(database: Database, transaction: Transaction, params: Sequence[Any]) -> Rows:
    for key, version in zip(*params, strict=True):
        row = database.row(transaction, key)
        if row is not None:
            database.lock(transaction, ("row", key))
            transaction.staged.rows[key] = deleted(row, version)
    return []


def _reset(database: Database, transaction: Transaction, params: Sequence[Any]) -> Rows:
    for key, version in zip(*params, strict=True):
        row = database.row(transaction, key)
        if row is not None:
            transaction.staged.rows[key] = reset(database.declaration, row, version)
    return []


def _bury(database: Database, transaction: Transaction, params: Sequence[Any]) -> Rows:
    for key, version in zip(*params, strict=True):
        transaction.staged.tombstones[key] = max(version, database.tombstones.get(key, 0))
    return []


def _tombstones(database: Database, transaction: Transaction, params: Sequence[Any]) -> Rows:
    seen = {**database.tombstones, **transaction.staged.tombstones}
    return [(key, seen[key]) for key in params[0] if key in seen]


def _letter(_database: Database, transaction: Transaction, params: Sequence[Any]) -> Rows:
    _topic, topic_id, _entity, _by, partitions, offsets = params
    for place in zip(partitions, offsets, strict=True):
        transaction.staged.letters[place] = topic_id
    return []


def _committed(database: Database, _transaction: Transaction, params: Sequence[Any]) -> Rows:
    known_as = {(n, p.epoch, p.next_offset) for n, p in database.progress.items()}
    return [(sum(span in known_as for span in zip(*params[:3], strict=True)),)]


def _owned(database: Database, _transaction: Transaction, params: Sequence[Any]) -> Rows:
    known_as = {(n, p.epoch) for n, p in database.progress.items()}
    return [place for place in zip(*params[:2], strict=True) if place in known_as]


def _select(database: Database, _transaction: Transaction, params: Sequence[Any]) -> Rows:
    found = [(key, database.rows[key]) for key in params[0] if key in database.rows]
    return [(key, *row.values, list(row.versions)) for key, row in found]


def _progress(database: Database, _transaction: Transaction, params: Sequence[Any]) -> Rows:
    topics, partitions = params
    known_ones = database.progress
    return [
        (topic, n, known_ones[n].topic_id, known_ones[n].next_offset, known_ones[n].epoch, "a flusher")
        for topic, n in zip(topics, partitions, strict=True)
        if n in known_ones
    ]


def claim(database: Database, _transaction: Transaction, params: Sequence[Any]) -> Rows:
    rows: Rows = []
    for topic, n, topic_id, start in zip(*params[1:], strict=True):
        claimed = database.claim(n, topic_id, start)
        rows.append((topic, n, claimed.epoch, claimed.next_offset, claimed.settled, claimed.topic_id))
    return rows


def _settled(database: Database, _transaction: Transaction, params: Sequence[Any]) -> Rows:
    for partition, epoch, offset in zip(*params[:3], strict=True):
        database.settled(partition, epoch, offset)
    return []


# How the text starts, what is in it, the point, and what runs it.
_KNOWN: tuple[tuple[str, str, str, Run], ...] = (
    ("SELECT", '."advance"(', "advance", _advance),
    ("MERGE INTO", "", "merge", _merge),
    ("DELETE FROM", "", "delete", _delete),
    ("UPDATE", '."progress"', "settled", _settled),
    ("UPDATE", "", "reset", _reset),
    ("INSERT INTO", '."tombstone"', "bury", _bury),
    ("INSERT INTO", '."letter"', "letter", _letter),
    ("INSERT INTO", '."progress"', "claim", claim),
    ("SELECT key, version", '."tombstone"', "tombstones", _tombstones),
    ("SELECT count(*)", '."progress"', "committed", _committed),
    ("SELECT p.partition, p.owner_epoch", '."progress"', "owned", _owned),
    ("SELECT topic, partition, topic_id", '."progress"', "progress", _progress),
    ('SELECT "t".', " JOIN unnest(", "select", _select),
)

"""Postgres in memory: rows, progress, tombstones and letters, with transactions, locks and savepoints."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from psycopg import errors

from writebehind.shared.declaration import Declaration

from .history import History
from .table import TableRow

Resource = tuple[str, int]  # what a transaction locks: ("row", key) or ("progress", partition)


@dataclass(frozen=True, slots=True)
class Progress:
    """A row of the progress table, less its topic."""

    topic_id: str
    next_offset: int
    epoch: int
    settled: int


@dataclass
class Staged:
    """What a transaction changed so far; a row that is None is deleted."""

    rows: dict[int, TableRow | None] = field(default_factory=dict)
    progress: dict[int, Progress] = field(default_factory=dict)
    tombstones: dict[str, int] = field(default_factory=dict)
    letters: dict[tuple[int, int], str] = field(default_factory=dict)

    def copy(self) -> Staged:
        return Staged(dict(self.rows), dict(self.progress), dict(self.tombstones), dict(self.letters))


@dataclass(eq=False)
class Transaction:
    """A transaction of one session. `failed`: a statement failed, so everything but ROLLBACK does too."""

    staged: Staged = field(default_factory=Staged)
    savepoints: list[Staged] = field(default_factory=list)
    failed: bool = False
    ended: bool = False  # the server ended the session while its process was suspended


class Database:
    """The committed state, and who holds which lock."""

    def __init__(self, declaration: Declaration, history: History) -> None:
        self.declaration = declaration
        self.history = history
        self.rows: dict[int, TableRow] = {}
        self.progress: dict[int, Progress] = {}
        self.tombstones: dict[str, int] = {}
        self.letters: dict[tuple[int, int], str] = {}
        self.claimed_by: dict[int, list[str]] = {}
        self._locks: dict[Resource, Transaction] = {}
        self._waits = 0

    def lock(self, transaction: Transaction, resource: Resource) -> None:
        """Take a lock until the transaction ends.

        Its holder is suspended, so waiting has one of two ends: the lock time-out is over first, or the holder's
        idle-in-transaction time-out.
        """
        holder = self._locks.get(resource)
        if holder is not None and holder is not transaction:
            self._waits += 1
            if self._waits % 2:
                raise errors.LockNotAvailable("canceling statement due to lock timeout")
            holder.ended = True
            self.release(holder)
        self._locks[resource] = transaction

    def release(self, transaction: Transaction) -> None:
        for resource in [r for r, holder in self._locks.items() if holder is transaction]:
            del self._locks[resource]

    def row(self, transaction: Transaction, key: int) -> TableRow | None:
        """A row as the transaction sees it."""
        staged = transaction.staged.rows
        return staged[key] if key in staged else self.rows.get(key)

    def advance(
        self,
        transaction: Transaction,
        partition: int,
        epoch: int,
        expected: int,
        following: int,
        settled: int | None,
    ) -> None:
        """One partition of advance(): raises unless it is where, and whose, the flusher thinks."""
        self.lock(transaction, ("progress", partition))
        known = transaction.staged.progress.get(partition) or self.progress.get(partition)
        if known is None or not may_advance(known, epoch, expected):
            fenced = errors.RaiseException("fenced")
            fenced.sqlstate = "WB001"
            raise fenced
        transaction.staged.progress[partition] = replace(
            known, next_offset=following, settled=known.settled if settled is None else settled
        )

    def settled(self, partition: int, epoch: int, offset: int) -> None:
        """UPDATE of how far the cache knows, for one partition."""
        transaction = Transaction()
        self.lock(transaction, ("progress", partition))
        self.release(transaction)
        known = self.progress.get(partition)
        if known is not None and known.epoch == epoch:
            self.progress[partition] = replace(known, settled=offset)

    def claim(self, partition: int, topic_id: str, start: int) -> Progress:
        """INSERT … ON CONFLICT DO UPDATE of the claims, for one partition."""
        transaction = Transaction()
        self.lock(transaction, ("progress", partition))
        self.release(transaction)
        known = self.progress.get(partition)
        self.progress[partition] = Progress(topic_id, start, 1, start) if known is None else raised(known)
        return self.progress[partition]

    def claimants(self, partitions: Iterable[int], name: str) -> None:
        """Take note of who claims: the checkers ask whether a partition moved."""
        for partition in partitions:
            self.claimed_by.setdefault(partition, []).append(name)

    def watch_owner(self, transaction: Transaction, name: str) -> None:
        """Called before a commit: only the last who claimed a partition may move it."""
        for partition in transaction.staged.progress:
            last = self.claimed_by[partition][-1]
            if last != name:
                self.history.went_back.append(f"partition {partition} was flushed by {name}, and belongs to {last}")

    def commit(self, transaction: Transaction) -> None:
        staged = transaction.staged
        for partition, progress in staged.progress.items():
            self._watch_progress(partition, progress)
            for offset in range(self.progress[partition].next_offset, progress.next_offset):
                self.history.flushed[partition, offset] = self.history.event()
        for key, row in staged.rows.items():
            self._watch_row(key, row, staged)
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row
        self.progress.update(staged.progress)
        self.tombstones.update(staged.tombstones)
        self.letters.update(staged.letters)

    def _watch_progress(self, partition: int, after: Progress) -> None:
        before = self.progress[partition]
        if after.next_offset < before.next_offset or after.epoch < before.epoch:
            self.history.went_back.append(f"progress of partition {partition}: {before} became {after}")

    def _watch_row(self, key: int, after: TableRow | None, staged: Staged) -> None:
        before = self.rows.get(key)
        if before is None or after is None or self.declaration.key_text((key,)) in staged.tombstones:
            return
        for column, old, new in zip(self.declaration.versioned, before.versions, after.versions, strict=True):
            if (new or 0) < (old or 0):
                self.history.went_back.append(f"row {key}: {column.name} went from version {old} to {new}")


def may_advance(known: Progress, epoch: int, expected: int) -> bool:
    """The condition of advance()."""
    return known.epoch == epoch and known.next_offset == expected


def raised(known: Progress) -> Progress:
    return replace(known, epoch=known.epoch + 1)

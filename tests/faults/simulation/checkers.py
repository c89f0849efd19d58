"""Whether a history keeps the promises. Pure functions; each returns the violations it finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from .entities import combines, times_applied
from .exempt import content_excused, left_in_doubt, may_be_hidden
from .expected import FIELDS, Expected, expected, keys_of
from .history import Call, History, Logged, Violation


def check(history: History) -> list[Violation]:
    """All checkers."""
    return [violation for checker in CHECKERS for violation in checker(history)]


def lost(history: History) -> Iterator[Violation]:
    """P1, P2: what was acknowledged is on the log, and what is on the log is in the row or is a letter."""
    logged = {record.number for record in history.log}
    for call in history.calls:
        if call.outcome == "acknowledged" and call.op.number not in logged:
            yield Violation("lost", f"{call.op} was acknowledged and is not on the log")
    for key, row, right in _rows(history):
        if row is None:
            if right.exists:
                yield Violation("lost", f"row {key} is missing; it should hold {right.values}")
            continue
        for field in FIELDS:
            for record in right.writers[field]:
                if _is_missing(history, field, record, row[field], right):
                    yield Violation("lost", f"row {key}: {field} is {row[field]!r}, without write {record.number}")


def duplicated(history: History) -> Iterator[Violation]:
    """P2: nothing is on the log twice, and no delta is in a row twice."""
    for number, count in Counter(record.number for record in history.log if record.number >= 0).items():
        if count > 1:
            yield Violation("duplicated", f"write {number} is on the log {count} times")
    for key, row, _ in _rows(history):
        for record in {r.number: r for r in history.log if r.key == key and "score" in r.patch}.values():
            if row is not None and (times := times_applied(row["score"], record.number)) > 1:
                yield Violation("duplicated", f"row {key}: the delta of write {record.number} is in it {times} times")


def regressed(history: History) -> Iterator[Violation]:
    """P3: versions and progress only go up; who starts after an acknowledgement gets the newer version."""
    for what in history.went_back:
        yield Violation("regressed", what)
    done = [call for call in history.calls if call.outcome == "acknowledged" and call.answered is not None]
    for earlier in done:
        for later in done:
            follows = later.op.key == earlier.op.key and later.invoked > (earlier.answered or 0)
            if follows and later.version <= earlier.version:
                yield Violation("regressed", f"{later.op} began after {earlier.op} was acknowledged, and is older")
    for key, row, right in _rows(history):
        if row is not None and not right.exists:
            yield Violation("regressed", f"row {key} is there again after its delete: {row}")


def phantom(history: History) -> Iterator[Violation]:
    """P5, P6: what failed or was refused is neither in the row nor, in the end, in the cache."""
    logged = {record.number: record for record in history.log}
    for call in history.calls:
        if call.outcome == "failed" and call.op.number in logged:
            yield Violation("phantom", f"{call.op} was said not to be applied, and is on the log")
    for key, row, right in _rows(history):
        if row is None or not right.exists:
            continue
        for field in FIELDS:
            if row[field] != right.values[field] and not _may_differ(history, field, right):
                yield Violation(
                    "phantom", f"row {key}: {field} is {row[field]!r}, and should be {right.values[field]!r}"
                )
    refused = _refused_texts(history)
    for key, entry in history.entries.items():
        if not content_excused(history, key):
            for text in refused & set(entry.values()):
                yield Violation("phantom", f"entry {key} still holds {text!r}, which was refused")


def stale(history: History) -> Iterator[Violation]:
    """P4: a read that begins after its client's own write was acknowledged shows that write, or a newer one."""
    reads = [call for call in history.calls if call.read and not _was_disturbed(history, call)]
    for read in reads:
        for write in _own_writes(history, read):
            for field in write.op.fields:
                if not _shows(history, read, write, field) and not may_be_hidden(history, read, write, field):
                    seen = "no row" if read.seen is None else repr(read.seen[field])
                    yield Violation("stale", f"{read.op} saw {seen} in {field} after {write.op} was acknowledged")


def letters(history: History) -> Iterator[Violation]:
    """P7: what was skipped is a letter that the broker has, and only what the database refuses was skipped."""
    poison = {call.op.number for call in history.calls if call.op.poison}
    for place in history.letter_rows - history.letters_sent:
        yield Violation("letters", f"the record at {place} was skipped before the broker had its letter")
    at = {(record.partition, record.offset): record for record in history.log}
    for place in history.letter_rows:
        if place in at and at[place].number not in poison:
            yield Violation("letters", f"write {at[place].number} became a letter, and nothing is wrong with it")


def coherent(history: History) -> Iterator[Violation]:
    """P8: once all is quiet, every entry equals its row or is absent, and none is pending."""
    for key, row, _ in _rows(history):
        if content_excused(history, key):
            continue
        if history.shown.get(key) != row:
            yield Violation("coherent", f"key {key} shows {history.shown.get(key)}, its row is {row}")
        if "#p" in history.entries.get(key, {}) and not left_in_doubt(history, key):
            yield Violation("coherent", f"entry {key} is pending for ever: {history.entries[key]}")


def alive(history: History) -> Iterator[Violation]:
    """Nothing ends for a reason that no fault explains, and once the faults are over everything is flushed."""
    for what in history.errors:
        yield Violation("alive", what)
    if history.stuck:
        yield Violation("alive", f"not flushed after all faults were over: {history.stuck}")


CHECKERS = (lost, duplicated, regressed, phantom, stale, letters, coherent, alive)


def _rows(history: History) -> Iterator[tuple[int, dict[str, Any] | None, Expected]]:
    names = [c.name for c in history.declaration.fields]
    for key in keys_of(history):
        row = history.rows.get(key)
        values = None if row is None else dict(zip(names, row.values, strict=True))
        yield key, values, expected(history, key)


def _is_missing(history: History, field: str, record: Logged, value: Any, right: Expected) -> bool:
    if field == "score":
        return times_applied(value, record.number) == 0
    if field == "best":
        return value is None or bool(value < record.patch[field])
    return bool(value != right.values[field] and record.patch[field] == right.values[field])


def _may_differ(history: History, field: str, right: Expected) -> bool:
    """A difference that is no phantom: a documented limit, or one that the other checkers name."""
    return bool(right.writers[field]) if not combines(history.declaration, field) else right.open


def _refused_texts(history: History) -> set[str]:
    """Texts of writes that failed, and of those that became letters."""
    texts = {f"v{call.op.number}" for call in history.calls if call.outcome == "failed"}
    skipped = [r for r in history.log if (r.partition, r.offset) in history.letter_rows]
    return texts | {value for record in skipped for value in record.patch.values() if isinstance(value, str)}


def _was_disturbed(history: History, read: Call) -> bool:
    return history.disturbed.get(read.op.key, read.answered or 0) < (read.answered or 0)


def _own_writes(history: History, read: Call) -> Iterator[Call]:
    """The client's own writes that its read must show: no delete may have taken them, nothing may have refused them."""
    of_key = [call for call in history.calls if call.op.key == read.op.key and call.op.kind in ("update", "delete")]
    deleted = any(call.op.kind == "delete" for call in of_key)
    for call in of_key:
        own = call.op.actor == read.op.actor and call.outcome == "acknowledged" and call.cached
        if own and call.answered is not None and call.answered < read.invoked and not call.op.poison and not deleted:
            yield call


def _shows(history: History, read: Call, write: Call, field: str) -> bool:
    if read.seen is None:
        return False
    seen = read.seen[field]
    if field == "score":
        return times_applied(seen, write.op.number) > 0
    if field == "best":
        return seen is not None and seen >= write.op.number * 11 % 31
    versions = {call.op.number: call.version for call in history.calls}
    number = int(seen[1:]) if seen and seen[1:].isdigit() else -1
    return versions.get(number, 0) >= write.version

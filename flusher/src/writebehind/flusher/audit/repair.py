"""Repairs: what is to be done about a finding, and doing it only while the entry is still what was seen.

A lost write is enqueued again as it was, through the flusher's fold and guard: under its own version, so that a write
which came after it and went around the cache stays, even while nobody can see it in the row yet.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from confluent_kafka import KafkaException, Producer

from writebehind.producer.outbox import producer_config
from writebehind.shared import naming
from writebehind.shared.declaration import Declaration
from writebehind.shared.entity import Merge
from writebehind.shared.record import Codec
from writebehind.shared.scripts import Call, Script
from writebehind.shared.settings import Settings

from ..cache import evaluate
from .cache import CacheReader
from .diff import DELETE, DRIFT, Comparer, Verdict
from .entry import Cached
from .options import Repair
from .store import Table
from .suspects import Suspect
from .tally import Finding

SCRIPT = Script.read("entry", "repair")

# What a finding's `repair` says. "would …" in a dry run.
INVALIDATED, SETTLED, ENQUEUED = "invalidated", "settled", "enqueued again"
MOVED_ON, FAILED, LEFT = "moved on", "not acknowledged", "left alone"

Work = tuple[Suspect, Finding]


@dataclass(frozen=True, slots=True)
class Step:
    """What to do with one entry: the script's action, and for 'e' the patch (or DELETE) and its version."""

    action: str
    does: str
    patch: list[tuple[int, Any]] | str | None = None
    version: int = 0


def plan(mode: Repair, finding: Finding, entry: Cached, row: Any, comparer: Comparer) -> Step | None:
    """What is to be done about a finding; None: nothing in this mode. Pure."""
    if finding.verdict is Verdict.UNSETTLED:
        return Step("s", SETTLED)
    if finding.verdict not in DRIFT:
        return None
    if finding.verdict is Verdict.LOST and mode is not Repair.INVALIDATE:
        patch = comparer.lost_patch(entry, row)
        if patch is not None:
            return Step("e", ENQUEUED, patch, _version(entry, patch, comparer))
    return None if mode is Repair.RE_ENQUEUE else Step("d", INVALIDATED)


def _version(entry: Cached, patch: list[tuple[int, Any]] | str, comparer: Comparer) -> int:
    """The version of a lost write; of fields that were written apart the oldest, which overwrites nothing newer."""
    kept = entry.kept
    if not isinstance(patch, list):
        return kept.deleted_at or kept.version
    positions = {position for position, _ in patch}
    marks = [kept.marks.get(f.short, kept.version) for f in comparer.fields if f.column.position in positions]
    return min(marks, default=kept.version)


def request(declaration: Declaration, comparer: Comparer, entry: Cached, step: Step) -> list[Any]:
    """What the script is told of one entry. Pure."""
    seen = [
        part
        for c, text in zip(declaration.fields, entry.texts, strict=True)
        if text is None or _is_text(text)
        for part in (c.name, False if text is None else text)
    ]
    if step.action != "e":
        return [step.action, entry.header, seen]
    if step.patch == DELETE:
        marks = "".join(f.short for f in comparer.fields if f.column.merge is not Merge.SUM)
        return ["e", entry.header, seen, marks, [], True]
    patch = dict(step.patch) if isinstance(step.patch, list) else {}
    touched = [f for f in comparer.fields if f.column.position in patch]
    marks = "".join(f.short for f in touched if f.column.merge is not Merge.SUM)
    sums = [
        part
        for f in touched
        if f.column.merge is Merge.SUM
        for part in (f.short, f.column.kind.to_cache(patch[f.column.position]))
    ]
    return ["e", entry.header, seen, marks, sums, False]


def _is_text(text: str) -> bool:
    """Whether it can be sent as text; else the bookkeeping, which every write changes, has to do."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Repairer:
    """Repairs, or says what it would do. `reader` must be allowed to write, when something is applied."""

    def __init__(self, settings: Settings, reader: CacheReader, mode: Repair, *, apply: bool) -> None:
        self._settings = settings
        self._reader = reader
        self._mode = mode
        self._apply = apply
        self._producer: Producer | None = None

    def repair(self, table: Table, work: Sequence[Work]) -> list[Finding]:
        """The findings, each with what was done. Entries that moved on are left to the next run."""
        steps = [
            plan(self._mode, finding, suspect.found, suspect.row, table.comparer)
            if isinstance(suspect.found, Cached)
            else None
            for suspect, finding in work
        ]
        done = ["would be " + step.does if step else LEFT for step in steps]
        if self._apply:
            indexes = [index for index, step in enumerate(steps) if step is not None]
            for index, what in zip(indexes, self._carry_out(table, work, steps, indexes), strict=True):
                done[index] = what
        return [
            replace(finding, repair=None if finding.verdict is Verdict.PENDING else what)
            for (_, finding), what in zip(work, done, strict=True)
        ]

    def close(self) -> None:
        if self._producer is not None:
            self._producer.flush(self._settings.producer.delivery_timeout_s)

    def _carry_out(
        self, table: Table, work: Sequence[Work], steps: Sequence[Step | None], indexes: Sequence[int]
    ) -> list[str]:
        declaration = table.declaration
        asked: list[Any] = []
        for index in indexes:
            entry, step = work[index][0].found, steps[index]
            if isinstance(entry, Cached) and step is not None:
                asked.append(request(declaration, table.comparer, entry, step))
        if not asked:
            return []
        keys = [self._reader.entry(declaration.name, work[index][1].key_text) for index in indexes]
        replies = self._call(keys, int(declaration.strategy.ttl_s * 1000), asked)
        outcomes: list[str] = []
        records: list[tuple[int, str, bytes]] = []
        for place, (index, reply) in enumerate(zip(indexes, replies, strict=True)):
            step = steps[index]
            outcomes.append(step.does if reply and step else MOVED_ON)
            if reply and step is not None and step.action == "e":
                patch = step.patch if isinstance(step.patch, list) else []
                value = Codec(declaration).encode(step.version, reply[0], work[index][0].key, patch)
                records.append((place, work[index][1].key_text, value))
        for place in self._enqueue(declaration, records):
            outcomes[place] = FAILED
        return outcomes

    def _call(self, keys: list[str], ttl_ms: int, asked: list[Any]) -> list[Any]:
        call = Call(SCRIPT, keys, (ttl_ms, msgspec.msgpack.encode(asked)))
        # Sent again after an answer that was lost, it finds the entries changed: then they count as moved on.
        reply = self._reader.patiently(lambda: evaluate(self._reader.client, call))
        found: list[Any] = msgspec.msgpack.decode(reply)
        return found

    def _enqueue(self, declaration: Declaration, records: Sequence[tuple[int, str, bytes]]) -> list[int]:
        """Enqueue, and wait for the broker. Gives the places that it did not acknowledge: the next run finds them."""
        if not records:
            return []
        if self._producer is None:
            self._producer = Producer(producer_config(self._settings))
        topic = naming.topic(self._settings.kafka.topic_prefix, declaration.name)
        failed = {place for place, _, _ in records}

        def told(place: int, error: object, _message: object) -> None:
            if error is None:
                failed.discard(place)

        for place, key_text, value in records:
            with contextlib.suppress(KafkaException, BufferError):  # not taken: it stays among the failed
                self._producer.produce(topic, value, key_text.encode(), on_delivery=functools.partial(told, place))
        self._producer.flush(2 * self._settings.producer.delivery_timeout_s)
        return sorted(failed)

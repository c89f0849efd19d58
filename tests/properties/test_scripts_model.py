"""The cache scripts against a model, on a real Valkey: one key, one row, one log, anything between two steps.

The model keeps the database row and the records that are enqueued and not flushed. What a read must show is the row
with those records on top, unless some of them were enqueued without this entry (the cache was wiped or unreachable):
then it may lag, but only until they are flushed.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from typing import Annotated, Any

import hypothesis.strategies as st
import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from writebehind.embedded import Isolation
from writebehind.producer.overlay import fill_patch, overlay
from writebehind.shared import bookkeeping
from writebehind.shared.declaration import declaration_of
from writebehind.shared.entity import Entity, Key, Max, Sum, WriteBehind
from writebehind.shared.fold import Settlement
from writebehind.shared.scripts import (
    Applied,
    Call,
    EntityScripts,
    NeedsBase,
    Patch,
    read_entries,
    read_flags,
    read_indexes,
    read_write,
)

LEASE_US = 60_000_000
EXAMPLES = int(os.environ.get("SCRIPT_EXAMPLES", "120"))


class Item(Entity, table="items", strategy=WriteBehind()):
    """One field of each merge."""

    id: Annotated[int, Key]
    name: str | None = None
    score: Annotated[int, Sum] = 0
    best: Annotated[int | None, Max] = None


DECLARATION = declaration_of(Item)
SCRIPTS = EntityScripts(DECLARATION)
NAME, SCORE, BEST = range(3)


@dataclass
class Row:
    """The database row; `version` is the one of its name."""

    name: str | None = None
    score: int = 0
    best: int | None = None
    version: int = 0

    def apply(self, version: int, patch: dict[int, Any]) -> None:
        if NAME in patch and version > self.version:
            self.name, self.version = patch[NAME], version
        self.score += patch.get(SCORE, 0)
        if BEST in patch:
            self.best = patch[BEST] if self.best is None else max(self.best, patch[BEST])

    def copy(self) -> Row:
        return Row(self.name, self.score, self.best, self.version)

    def selected(self) -> tuple[Any, ...]:
        """As `Statements.select` gives it, less the key."""
        return (self.name, self.score, self.best, [self.version])


@dataclass
class Record:
    """A record on the topic. `applied` None: it was enqueued without the cache."""

    version: int
    patch: dict[int, Any]
    applied: Applied | None

    @property
    def generation(self) -> int:
        return self.applied.generation if self.applied else 0


def in_cache_form(patch: dict[int, Any]) -> Patch:
    return [(position, "\x00" if value is None else str(value)) for position, value in sorted(patch.items())]


patches = st.dictionaries(st.sampled_from([NAME, SCORE, BEST]), st.integers(-3, 9), min_size=1).map(
    lambda patch: {p: (f"n{v}" if p == NAME else v) for p, v in patch.items()}
)


class ScriptsMachine(RuleBasedStateMachine):
    client: redis.Redis
    key: str

    @initialize(exists=st.booleans())
    def start(self, exists: bool) -> None:
        self.client.flushdb()
        self.row: Row | None = Row("old", 100, 50, 1) if exists else None
        self.log: list[Record] = []
        self.newest = 1
        self.foreign = False  # the entry was tainted by records of another generation, and not healed since
        self.leased: tuple[str, Row | None] | None = None
        self.tokens = itertools.count()

    def run(self, call: Call) -> Any:
        return self.client.eval(call.script.text, len(call.keys), *call.keys, *call.args)

    def entry(self) -> dict[str, str]:
        found: dict[bytes, bytes] = self.client.hgetall(self.key)  # type: ignore[assignment]  # the synchronous client
        return {name.decode(): value.decode() for name, value in found.items()}

    # Steps of the producer

    @rule(patch=patches)
    def write(self, patch: dict[int, Any]) -> None:
        for _ in range(2):
            token = f"w{next(self.tokens)}"
            call = SCRIPTS.write([self.key], [in_cache_form(patch)], seen=self.newest, token=token, lease_us=LEASE_US)
            answer = read_write(self.run(call))[1][0]
            if isinstance(answer, Applied):
                assert answer.version > self.newest
                self.newest = answer.version
                self.log.append(Record(answer.version, patch, answer))
                return None
            assert isinstance(answer, NeedsBase)
            if not answer.token:
                return self.write_without_cache(patch)  # somebody else is loading the base: the cache is left alone
            assert self.fill(token, self.row)
        raise AssertionError("the base was loaded, and asked for again")

    @rule(patch=patches)
    def write_without_cache(self, patch: dict[int, Any]) -> None:
        self.newest += 1
        self.log.append(Record(self.newest, patch, None))

    @precondition(lambda self: any(record.applied for record in self.log))
    @rule(data=st.data())
    def undo(self, data: st.DataObject) -> None:
        record = data.draw(st.sampled_from([record for record in self.log if record.applied]))
        assert record.applied is not None
        self.log.remove(record)
        self.run(SCRIPTS.undo([self.key], [(record.applied, in_cache_form(record.patch))]))

    @rule()
    def read(self) -> None:
        self.look()

    @rule()
    def lease(self) -> None:
        token = f"r{next(self.tokens)}"
        entry = read_entries(self.run(SCRIPTS.lease([self.key], token=token, lease_us=LEASE_US)))[0]
        if entry.granted:
            self.leased = token, None if self.row is None else self.row.copy()

    @precondition(lambda self: self.leased is not None)
    @rule()
    def fill_late(self) -> None:
        """The reader was slow: its row may be older than what was flushed since."""
        assert self.leased is not None
        (token, row), self.leased = self.leased, None
        self.fill(token, row)

    def fill(self, token: str, row: Row | None) -> bool:
        patch = fill_patch(DECLARATION, None if row is None else row.selected())
        return read_flags(self.run(SCRIPTS.fill([self.key], [patch], token=token)))[0]

    # Steps of the flusher

    @precondition(lambda self: self.log)
    @rule(data=st.data(), heal=st.booleans())
    def flush(self, data: st.DataObject, heal: bool) -> None:
        count = data.draw(st.integers(1, len(self.log)))
        flushed, self.log = self.log[:count], self.log[count:]
        self.row = self.row or Row()
        for record in flushed:
            self.row.apply(record.version, record.patch)
        if self.settle(flushed) and heal:
            self.run(SCRIPTS.heal([self.key], [self.healthy(self.row)]))
            self.foreign = False

    def healthy(self, row: Row) -> tuple[bool, Patch, list[tuple[int, int]]]:
        return True, fill_patch(DECLARATION, row.selected())[2], [(NAME, row.version)]

    def settle(self, flushed: list[Record]) -> bool:
        generations = sorted({record.generation for record in flushed})
        self.foreign |= any(not g or g != bookkeeping.of(self.entry()).generation for g in generations)
        groups = [[record for record in flushed if record.generation == generation] for generation in generations]
        sums = [[record.patch[SCORE] for record in group if SCORE in record.patch] for group in groups]
        settlement = Settlement(
            ["1"] * len(groups),
            generations,
            [len(group) for group in groups],
            [max(record.version for record in group) for group in groups],
            [[sum(deltas) if deltas else None for deltas in sums]],
        )
        return bool(read_indexes(self.run(SCRIPTS.settle([self.key] * len(groups), settlement))))

    # Steps of the world

    @rule()
    def lose_everything(self) -> None:
        self.client.flushdb()

    @precondition(lambda self: self.client.pttl(self.key) > 0)
    @rule()
    def expire(self) -> None:
        self.client.delete(self.key)

    # What must hold

    def look(self) -> Item | None:
        entry = self.entry()
        row = None if bookkeeping.is_complete(entry) or self.row is None else self.row.selected()
        found = overlay(DECLARATION, (1,), entry, row)
        assert found is None or isinstance(found, Item)
        return found

    def truth(self) -> Row | None:
        if self.row is None and not self.log:
            return None
        row = self.row.copy() if self.row else Row()
        for record in self.log:
            row.apply(record.version, record.patch)
        return row

    @invariant()
    def a_pending_entry_does_not_expire(self) -> None:
        if bookkeeping.of(self.entry()).pending:
            assert self.client.pttl(self.key) == -1

    @invariant()
    def with_nothing_to_flush_nothing_is_pending_and_reads_show_the_row(self) -> None:
        if not self.log:
            assert not bookkeeping.of(self.entry()).pending
            self.compare(self.look(), self.row, exact=True)

    @invariant()
    def reads_show_the_row_and_all_that_is_pending(self) -> None:
        kept = bookkeeping.of(self.entry())
        known = all(record.applied and record.generation == kept.generation for record in self.log)
        if not kept.tainted:
            self.foreign = False
        if known and not self.foreign:
            self.compare(self.look(), self.truth(), exact=not kept.tainted)

    def compare(self, found: Item | None, expected: Row | None, *, exact: bool) -> None:
        if expected is None:
            assert found is None
            return
        if found is None and not exact and expected.name is None:
            return  # the one candidate that is left is the one that an undo hides, see below
        assert found is not None
        assert found.name == expected.name
        if exact:  # after an undo a maximum may miss a candidate until the entry is clean, and is then reloaded
            assert (found.score, found.best) == (expected.score, expected.best)


@pytest.mark.filterwarnings("ignore")
def test_the_scripts_keep_what_they_promise_whatever_happens(writebehind_isolated: Isolation) -> None:
    url = writebehind_isolated.cache_url.rpartition("/")[0] + "/9"  # FLUSHDB must not touch what other tests use
    client = redis.Redis.from_url(url)
    ScriptsMachine.client = client
    ScriptsMachine.key = f"{writebehind_isolated.cache_prefix}:{{item:1}}"
    run_state_machine_as_test(
        ScriptsMachine,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
    client.flushdb()
    client.close()

"""The scripts and statements of direct entities against a model, on a real Valkey and a real Postgres: one row, two
writers and two readers, anything between two steps.

The row in Postgres is the truth. What the cache serves must be that row, however writers, readers, invalidations and
deaths interleave. One thing is allowed, and said by `explain`: after the cache lost everything, a writer whose intent
went with it may commit under a reader who has filled, or will; what is served is old until somebody empties the entry,
which that writer's own end does.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import hypothesis.strategies as st
import psycopg
import redis
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from writebehind.producer._sync.prepared import rows_of
from writebehind.producer.direct_write import DirectTarget, Row, Verb, checked
from writebehind.shared import bookkeeping, direct
from writebehind.shared.declaration import declaration_of
from writebehind.shared.direct import How, State
from writebehind.shared.direct_statement import DirectStatements
from writebehind.shared.entity import CacheAside, Entity, Key, Sum, WriteThrough
from writebehind.shared.kinds import CACHE_NULL
from writebehind.shared.scripts import Call
from writebehind.shared.statement import Statements


class _Item(Entity, abstract=True):
    id: Annotated[int, Key]
    name: str | None = None
    count: Annotated[int, Sum] = 0


class Aside(_Item, table="model_asides", strategy=CacheAside()):
    """Dropped by a write."""


class Through(_Item, table="model_throughs", strategy=WriteThrough()):
    """Put by a write."""


DDL = {
    Aside: "CREATE TABLE model_asides (id bigint PRIMARY KEY, name text, count bigint NOT NULL DEFAULT 0)",
    Through: "CREATE TABLE model_throughs (id bigint PRIMARY KEY, name text, count bigint NOT NULL DEFAULT 0,"
    " version bigint)",
}
LONG_US = 600_000_000
SLOTS = st.integers(0, 1)


@dataclass
class Writer:
    """A write. `covered`: its intent is still in the cache. `committed`: how to end it, once the row is written."""

    token: str
    covered: bool = True
    committed: How | None = None
    row: Row | None = None


@dataclass
class Reader:
    """A reader who may fill, and the row it has read."""

    token: str
    row: Row | None


class DirectMachine(RuleBasedStateMachine):
    """Cache-aside. Set `client`, `connection` and `prefix`."""

    client: ClassVar[redis.Redis]
    connection: ClassVar[psycopg.Connection[Any]]
    prefix: ClassVar[str]
    schema: ClassVar[str]
    cls: ClassVar[type[_Item]] = Aside

    @initialize(exists=st.booleans())
    def start(self, exists: bool) -> None:
        self.client.flushdb()
        self.declaration = declaration_of(self.cls)
        self.target = DirectTarget(self.declaration, self.prefix)
        self.key = self.target.entry("1")
        types = {"id": "bigint", "name": "text", "count": "bigint"}
        self.statements = DirectStatements(self.declaration, schema=self.schema, column_types=types)
        self.connection.execute(f"DELETE FROM {self.declaration.table}".encode())
        self.writers: dict[int, Writer] = {}
        self.readers: dict[int, Reader] = {}
        self.numbers = itertools.count()
        self.exposed = False  # a writer whose intent was lost has committed, and nobody has emptied the entry since
        if exists:
            self.write_row("create", {"name": "first"})

    def run(self, call: Call) -> Any:
        return self.client.eval(call.script.text, len(call.keys), *call.keys, *call.args)

    # Writers

    @rule(slot=SLOTS)
    def announce(self, slot: int) -> None:
        if slot in self.writers:
            return
        writer = self.writers[slot] = Writer(f"w{next(self.numbers)}")
        assert direct.read_flags(self.run(direct.intend([self.key], [writer.token], life_us=LONG_US))) == [True]
        self.exposed = False

    @precondition(lambda self: any(writer.committed is None for writer in self.writers.values()))
    @rule(data=st.data(), delete=st.booleans(), count=st.integers(-3, 9))
    def commit(self, data: st.DataObject, delete: bool, count: int) -> None:
        slot = data.draw(st.sampled_from([slot for slot, one in self.writers.items() if one.committed is None]))
        writer, there = self.writers[slot], self.row() is not None
        if not there:
            writer.row = self.write_row("create", {"name": f"n{next(self.numbers)}"})
        elif delete:
            writer.row = self.write_row("delete", {})
        else:
            writer.row = self.write_row("update", {"name": f"n{next(self.numbers)}", "count": count})
        writer.committed = "void" if there and delete else "put" if self.target.puts else "drop"
        self.exposed |= not writer.covered

    @precondition(lambda self: self.writers)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """Acknowledged, or undone when nothing was written."""
        writer = self.writers.pop(data.draw(st.sampled_from(sorted(self.writers))))
        how: How = writer.committed or "undone"
        self.run(direct.finish([self.key], [self.target.finishing(writer.token, how, writer.row)]))
        if how != "undone" and not writer.covered:
            self.exposed = False

    # Readers

    @rule(slot=SLOTS)
    def ask(self, slot: int) -> None:
        """Read; who may load has the row at once, and fills when the time comes."""
        token = f"r{next(self.numbers)}"
        found = direct.read_found(self.run(direct.read([self.key], token=token, lease_us=LONG_US)))[0]
        if found.state is State.HIT:
            self.compare(found.fields)
        elif found.state is State.LOAD:
            self.readers[slot] = Reader(token, self.row())
        elif found.state is State.BYPASS:
            assert any(writer.covered for writer in self.writers.values())

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def fill(self, data: st.DataObject) -> None:
        reader = self.readers.pop(data.draw(st.sampled_from(sorted(self.readers))))
        self.run(direct.fill([self.key], [self.target.filling(reader.row, 0)], token=reader.token))

    # The world: one rule, so that most steps are of readers and writers

    @rule(data=st.data(), what=st.sampled_from(["death", "hand", "loss"]))
    def suffer(self, data: st.DataObject, what: str) -> None:
        if what == "hand":
            self.connection.execute(f"UPDATE {self.declaration.table} SET name = 'by hand', count = count + 1".encode())
            self.run(direct.void([self.key]))
            self.exposed = False
        elif what == "loss":
            self.client.flushdb()
            for writer in self.writers.values():
                writer.covered = False
            self.exposed = False
        elif self.writers:
            self.die(self.writers.pop(data.draw(st.sampled_from(sorted(self.writers)))))

    def die(self, writer: Writer) -> None:
        """And its intent runs out."""
        if not writer.covered:
            return  # what it has committed nobody tells the cache of, until its entry is emptied
        header = self.entry().get("#", "")
        at = header.find(f"{writer.token}:")
        assert at > 0
        ends = header[at + len(writer.token) + 1 :].partition(" ")[0]
        self.client.hset(self.key, "#", header.replace(f"{writer.token}:{ends}", f"{writer.token}:1"))

    # What must hold

    @invariant()
    def what_is_served_is_the_row(self) -> None:
        entry = self.entry()
        kept = bookkeeping.of(entry)
        if entry and kept.complete and not kept.intents:
            self.compare(entry)

    @invariant()
    def an_entry_expires(self) -> None:
        assert self.client.pttl(self.key) != -1

    def compare(self, fields: dict[str, str]) -> None:
        if self.exposed:
            return
        row = self.row()
        if row is None:
            assert "name" not in fields
            return
        assert (fields["name"], fields["count"]) == (CACHE_NULL if row[0] is None else row[0], str(row[1]))

    def entry(self) -> dict[str, str]:
        found: dict[bytes, bytes] = self.client.hgetall(self.key)  # type: ignore[assignment]  # the synchronous client
        return {name.decode(): value.decode() for name, value in found.items()}

    def row(self) -> Row | None:
        found = self.connection.execute(Statements.select_of(self.declaration), [[1]], binary=True).fetchone()
        return None if found is None else tuple(found[1:])

    def write_row(self, verb: Verb, patch: dict[str, Any]) -> Row | None:
        write = checked(self.target, verb, 1, patch, bytes_max=10_000)
        if verb == "update":
            statement = self.statements.update(write.positions, many=False)
        else:
            statement = self.statements.insert(write.positions) if verb == "create" else self.statements.delete
        (found,) = rows_of(self.connection, statement, write.params)
        return found[1:]


class ThroughMachine(DirectMachine):
    """Write-through."""

    cls = Through

"""A service: the real producer, its calls and what happens behind them taken step by step."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from writebehind.producer._sync.cache import Cache
from writebehind.producer._sync.reader import Reader
from writebehind.producer._sync.writer import Writer
from writebehind.producer.write import Target, Write, check_delete, check_update
from writebehind.shared.errors import DatabaseDown, Unknown
from writebehind.shared.settings import Settings

from .client_ports import Outbox, Rows, Runtime
from .database import Database
from .entities import value
from .history import Call
from .plan import Op
from .redis_port import key_of
from .world import Actor, Process, World


class Client:
    """One process after the other, with the calls of one actor of the plan."""

    def __init__(self, world: World, database: Database, number: int, ops: Sequence[Op], settings: Settings) -> None:
        self._world = world
        self._database = database
        self._number = number
        self._settings = settings
        self._ops = list(ops)
        self._in_flight: list[tuple[Call, Write]] = []
        declaration = world.history.declaration
        self.target = Target(declaration, settings.kafka.topic_prefix, settings.cache.prefix)
        self._lives = 0
        self._process = Process("", "client")
        self._process.alive = False
        self._runtime = Runtime()
        self._outbox: Outbox = None  # type: ignore[assignment]  # made with the first process
        self.actors = [
            Actor(self.process, self._next, lambda: bool(self._ops)),
            Actor(self.process, self._deliver, lambda: self._process.alive and bool(self._outbox.waiting)),
            Actor(self.process, self._task, lambda: self._process.alive and bool(self._runtime.tasks)),
        ]

    def process(self) -> Process:
        """The process that runs now; a new one when the last has ended."""
        if not self._process.alive:
            self._lives += 1
            self._process = Process(f"client {self._number}.{self._lives}", "client")
            self._process.on_end.append(self._ended)
            with self._world.within(self._process):
                self._open()
        return self._process

    @property
    def idle(self) -> bool:
        return not (self._ops or (self._process.alive and (self._outbox.waiting or self._runtime.tasks)))

    def _open(self) -> None:
        rows: Any = Rows(self._world, self._database)
        self._runtime = Runtime()
        self._cache = Cache(self._settings.cache)
        self._reader = Reader(self._settings, self._cache, rows)
        self._writer = Writer(self._settings, self._cache, rows, self._runtime)  # type: ignore[arg-type]  # a stand-in
        self._outbox = self._writer.outbox  # type: ignore[assignment]  # as above

    def _next(self) -> None:
        call = Call(self._ops.pop(0), self._world.history.event())
        self._world.history.calls.append(call)
        self._world.note(call.op)
        if call.op.kind == "read":
            self._read(call)
        else:
            self._write(call)

    def _deliver(self) -> None:
        self._outbox.step()
        self._collect()

    def _task(self) -> None:
        self._runtime.tasks.pop(0)()
        self._collect()

    def _write(self, call: Call) -> None:
        op = call.op
        if op.kind == "delete":
            write = check_delete(self.target, op.key)
        else:
            patch = {field: value(field, op.number, poison=op.poison) for field in op.fields}
            write = check_update(self.target, op.key, patch, size_max=1_000_000)
        self._in_flight.append((call, write))
        self._outbox.numbers[write] = op.number
        self._writer.carry_out(self.target, [write], wait=False, timeout_s=10.0)
        self._collect()

    def _read(self, call: Call) -> None:
        with contextlib.suppress(DatabaseDown):
            call.seen = self.show(call.op.key)
            call.read = True
        call.answered = self._world.history.event()
        self._world.note("read", call.seen)

    def show(self, key: int) -> dict[str, Any] | None:
        """What a read of a key gives."""
        found = self._reader.get_many(self.target, [(key,)])[0]
        return None if found is None else found.model_dump(exclude={"id"})

    def _collect(self) -> None:
        """Take note of the calls that have their answer."""
        waiting: list[tuple[Call, Write]] = []
        for call, write in self._in_flight:
            call.version, call.cached = write.version, write.generation > 0
            if not write.group.answered:
                waiting.append((call, write))
                continue
            failure = write.outcome()
            call.answered = self._world.history.event()
            call.outcome = (
                "acknowledged" if failure is None else "unknown" if isinstance(failure, Unknown) else "failed"
            )
            self._world.note(call.outcome, call.op, f"version {call.version}")
        self._in_flight = waiting

    def _ended(self) -> None:
        for call, write in self._in_flight:
            call.version, call.cached = write.version, write.generation > 0
        self._in_flight = []
        for entry in self._cache._suspects:  # nobody remembers any more that these are in doubt
            self._world.history.excused.add(key_of(entry))

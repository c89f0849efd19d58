"""One plan carried out: the servers, the services, the faults, and then quiet."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from writebehind.shared import naming
from writebehind.shared.record import KEYS, MASK, VERSION, Codec

from .broker import PARTITIONS, Broker
from .client import Client
from .database import Database
from .entities import DECLARATIONS, OLD_ROW
from .flusher import Flusher
from .history import History, Logged
from .patches import SETTINGS, Stage
from .plan import WORLD, Op, Plan
from .redis_port import key_of
from .table import TableRow
from .world import Actor, Process, World

FLUSHERS = 2
KEYS_ALL = range(3)
CALM_STEPS_MAX = 600


class Run:
    """The parts of one run."""

    def __init__(self, stage: Stage, plan: Plan, *, tracing: bool = False) -> None:
        declaration = DECLARATIONS[plan.deletes]
        self.history = History(plan, declaration)
        self.world = world = World(plan, self.history, tracing=tracing)
        self.database = Database(declaration, self.history)
        self.broker = Broker(naming.topic(SETTINGS.kafka.topic_prefix, declaration.name))
        stage.world, stage.servers = world, self
        self._add_old_rows()
        by_actor = [[op for op in plan.ops if op.actor == n] for n in range(plan.clients)]
        self.clients = [Client(world, self.database, n, ops, SETTINGS) for n, ops in enumerate(by_actor)]
        self.flushers = [Flusher(world, number, SETTINGS) for number in range(FLUSHERS)]
        self._events = [op for op in plan.ops if op.actor == WORLD]
        self._nobody = Process("world", "world")
        actors = [
            Actor(lambda: self._nobody, self._event, lambda: bool(self._events)),
            Actor(lambda: self._nobody, self._late, lambda: bool(self.broker.late)),
            Actor(lambda: self._nobody, self._start, lambda: not any(flusher.alive for flusher in self.flushers)),
        ]
        nobody: Any = SimpleNamespace(actors=actors)
        world.parts = [nobody, *self.clients, *self.flushers]
        world.on_suspend = self._throw_out

    def _add_old_rows(self) -> None:
        declaration = self.history.declaration
        for key in range(self.history.plan.old_rows):
            values = tuple(OLD_ROW[c.name] for c in declaration.fields)
            self.history.old_rows[key] = TableRow(values, (None,) * len(declaration.versioned))
        self.database.rows.update(self.history.old_rows)

    def carry_out(self) -> History:
        """Faults first; then everybody who lives finishes, and the history says what is left."""
        while not self._written and self.world.step():
            pass
        self.world.calm = True
        self._settle_down()
        self._tell()
        return self.history

    @property
    def _written(self) -> bool:
        return not self._events and not self.broker.late and all(client.idle for client in self.clients)

    def _settle_down(self) -> None:
        for _ in range(CALM_STEPS_MAX):
            if self._flushed and self._written:
                break
            if not self.world.step():
                break
            self.world.now_us += 500_000
        else:
            self.history.stuck = f"progress {self.database.progress}, log {[len(log) for log in self.broker.logs]}"
        reader = Client(self.world, self.database, 99, [], SETTINGS)
        for client in [*self.clients, reader]:
            with self.world.within(client.process()):  # also makes a client forget the entries that it suspects
                self.history.shown = {key: client.show(key) for key in KEYS_ALL}

    @property
    def _flushed(self) -> bool:
        alive = [flusher for flusher in self.flushers if flusher.alive]
        ends = {n: len(log) for n, log in enumerate(self.broker.logs) if log}
        progress = self.database.progress
        told = all(n in progress and progress[n].next_offset >= end for n, end in ends.items())
        owned = {number for flusher in alive for _, number in flusher.app._membership.owned}
        return told and ends.keys() <= owned and all(flusher.quiet for flusher in alive)

    def _tell(self) -> None:
        history, database = self.history, self.database
        history.rows = dict(database.rows)
        history.progress = {n: progress.next_offset for n, progress in database.progress.items()}
        history.letter_rows = set(database.letters)
        history.log = self._logged()
        history.entries = {key_of(name): dict(entry) for name, entry in self.world.cache.entries.items()}
        for message in self.broker.letters:
            headers = dict(message.headers())
            place = (headers["__connect.errors.partition"], headers["__connect.errors.offset"])
            history.letters_sent.add((int(place[0]), int(place[1])))

    def _logged(self) -> list[Logged]:
        declaration = self.history.declaration
        codec = Codec(declaration)
        logged: list[Logged] = []
        for partition in range(PARTITIONS):
            for message in self.broker.logs[partition]:
                row = codec.decode([message.value()])[0]
                patch = {c.name: row[KEYS + 1 + c.position] for c in declaration.fields if row[MASK] & c.bit}
                logged.append(Logged(partition, message.offset(), message.number, row[KEYS], row[VERSION], patch))
        return logged

    # What the world does by itself

    def _event(self) -> None:
        op = self._events.pop(0)
        self.world.note(op)
        match op.kind:
            case "wipe":
                self.world.cache.wipe()
                self._disturb_all()
            case "expire":
                self._expire(op)
            case "rebalance":
                self.broker.rebalance()
            case "kill":
                self._kill(op)
            case "start":
                self._start()
            case _:
                self.world.now_us += 3_000_000

    def _disturb_all(self) -> None:
        for key in KEYS_ALL:
            self.history.disturbed.setdefault(key, self.world.history.event())

    def _expire(self, op: Op) -> None:
        """The time to live of an entry is over, if it has one. A doubt lasts longer than any run."""
        name = self.clients[0].target.entry(str(op.key))
        if name in self.world.cache.expires and "#h" not in self.world.cache.entry(name):
            self.world.cache.drop(name)

    def _kill(self, op: Op) -> None:
        alive = [flusher for flusher in self.flushers if flusher.alive]
        if alive:
            self.history.crashes += 1
            alive[op.number % len(alive)].process.end()

    def _start(self) -> None:
        for flusher in self.flushers:
            if not flusher.alive:
                flusher.start()
                return

    def _late(self) -> None:
        self.broker.late.pop(0)()

    def _throw_out(self, process: Process) -> None:
        for flusher in self.flushers:
            if flusher.process is process and flusher.app is not None:
                member = flusher.app._membership._consumer.member
                if member is not None:
                    self._start()
                    self.broker.throw_out(member)


def carry_out(stage: Stage, plan: Plan, *, tracing: bool = False) -> History:
    """Run a plan. The stage must be installed."""
    return Run(stage, plan, tracing=tracing).carry_out()

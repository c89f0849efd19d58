"""A service: the real producer, its calls and what happens behind them taken step by step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from writebehind.producer._sync.cache import Cache
from writebehind.producer._sync.reader import Reader
from writebehind.producer._sync.writer import Writer
from writebehind.producer.write import Target, Write, check_delete, check_update
from writebehind.shared.errors import DatabaseDown, Unknown
from writebehind.shared.settings import Settings

from .broker import Broker, Message
from .database import Database
from .entities import value
from .history import Call
from .plan import Op
from .redis_port import key_of
from .world import Actor, Process, World


def _timed_out(_flavour: int) -> KafkaException:
    return KafkaException(KafkaError(KafkaError._MSG_TIMED_OUT))


REFUSALS = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.INVALID_RECORD)


class Outbox:
    """Stands in for the producer's own outbox: records wait here until the broker takes them."""

    broker_down = False

    def __init__(self, world: World, broker: Broker, deliver: Callable[[Sequence[Write]], None]) -> None:
        self._world = world
        self._broker = broker
        self._deliver = deliver
        self.waiting: list[tuple[Write, bytes]] = []
        self.numbers: dict[Write, int] = {}  # as in the plan: versions alone may be equal

    def reserve(self, *_: Any) -> bool:
        return True

    def release(self, _writes: Sequence[Write]) -> None:
        """There is always room."""

    def send(self, write: Write, record: bytes) -> None:
        def refused(_flavour: int) -> BaseException:
            return BufferError("the queue is full")

        # librdkafka takes a record or refuses it; nothing can be lost between us and it.
        self._world.call("send", lambda: None, refused)
        self.waiting.append((write, record))

    def step(self) -> None:
        """The broker answers for the oldest record."""
        write, record = self.waiting.pop(0)
        done: list[Write] = []
        write.on_delivery = done.append

        def append() -> None:
            write.delivered(None, self._append(write, record))  # type: ignore[arg-type]

        try:
            self._world.call("append", append, _timed_out, special=self._other(write, record))
        except KafkaException as error:
            done.clear()
            write.delivered(error.args[0], None)  # type: ignore[arg-type]  # reports of failures have no message
        self._deliver(done)

    def _other(self, write: Write, record: bytes) -> Callable[[int], None]:
        def answer(flavour: int) -> None:
            if flavour % 4:
                write.delivered(KafkaError(REFUSALS[flavour % len(REFUSALS)]), None)  # type: ignore[arg-type]
                return
            # The time is up, and the request is carried out afterwards.
            self._broker.late.append(lambda: self._append(write, record))
            write.delivered(KafkaError(KafkaError._MSG_TIMED_OUT), None)  # type: ignore[arg-type]

        return answer

    def _append(self, write: Write, record: bytes) -> Message:
        return self._broker.append(write.key_text.encode(), record, self.numbers[write])


class Rows:
    """Stands in for the producer's connections to Postgres: it only reads."""

    def __init__(self, world: World, database: Database) -> None:
        self._world = world
        self._database = database

    def select(self, _declaration: Any, keys: Sequence[tuple[Any, ...]], _timeout_s: float) -> dict[Any, Any]:
        rows = self._database.rows
        return self._world.call(
            "base",
            lambda: {key: (*rows[key[0]].values, list(rows[key[0]].versions)) for key in keys if key[0] in rows},
            lambda _: DatabaseDown("planted"),
        )


class Runtime:
    """Stands in for the thread behind the callers' backs: what is spawned waits for a step of its own."""

    def __init__(self) -> None:
        self.tasks: list[Callable[[], None]] = []

    def post(self, function: Callable[[Any], None], argument: Any) -> None:
        function(argument)

    def spawn(self, function: Callable[..., None], *arguments: Any) -> None:
        self.tasks.append(lambda: function(*arguments))

    def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


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
            call.version, call.cached = write.version, write.applied is not None
            if not write.group.signal.wait(0):
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
            call.version, call.cached = write.version, write.applied is not None
        self._in_flight = []
        for entry in self._cache._suspects:  # nobody remembers any more that these are in doubt
            self._world.history.excused[key_of(entry)] = True

"""What stands in for the producer's own connections: to the broker, to Postgres, and to its background thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from writebehind.producer.write import Write
from writebehind.shared.errors import DatabaseDown

from .broker import Broker, Message
from .database import Database
from .world import World


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
            write(None, self._append(write, record))  # type: ignore[arg-type]

        try:
            self._world.call("append", append, _timed_out, special=self._other(write, record))
        except KafkaException as error:
            done.clear()
            write(error.args[0], None)  # type: ignore[arg-type]  # reports of failures have no message
        self._deliver(done)

    def _other(self, write: Write, record: bytes) -> Callable[[int], None]:
        def answer(flavour: int) -> None:
            if flavour % 4:
                write(KafkaError(REFUSALS[flavour % len(REFUSALS)]), None)  # type: ignore[arg-type]
                return
            # The time is up, and the request is carried out afterwards.
            self._broker.late.append(lambda: self._append(write, record))
            write(KafkaError(KafkaError._MSG_TIMED_OUT), None)  # type: ignore[arg-type]

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

"""Puts the servers in memory in the place of the real ones, while the simulation runs."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

from writebehind.flusher import app, claims, database, letterbox, loop, preflight, rows, settle, watchdog
from writebehind.producer._sync import bases as producer_bases
from writebehind.producer._sync import cache as producer_cache
from writebehind.producer._sync import writer as producer_writer
from writebehind.producer.backends import threads_line
from writebehind.shared.declaration import Declaration
from writebehind.shared.settings import Settings
from writebehind.shared.statement import Statements

from .broker import Message
from .client_ports import Outbox
from .kafka_port import AdminPort, ConsumerPort, LetterProducerPort
from .postgres_port import Connection, TriesPort
from .redis_port import RedisPort
from .world import World

SETTINGS = Settings.model_validate(
    {
        "kafka": {"bootstrap_servers": "nowhere:9"},
        "database": {"url": "postgresql://nowhere"},
        "cache": {"url": "redis://nowhere"},
        # Small batches, so that a short history has many; no delay between attempts, because no time passes in them.
        "flusher": {"batch_rows_max": 3, "retry_delay_min_s": 1e-9, "retry_delay_max_s": 1e-9},
    }
)


class Stage:
    """Which world runs now; one at a time."""

    def __init__(self) -> None:
        self.world: World | None = None
        self.servers: Any = None  # its database and broker

    @property
    def now_s(self) -> float:
        assert self.world is not None
        return self.world.now_us / 1e6

    def sleep(self, seconds: float) -> None:
        """Waiting is a chance for others."""
        assert self.world is not None
        self.world.now_us += int(seconds * 1e6)
        self.world.interleave(2)


class _AtOnce:
    """A thread that has done its work when it starts: nothing runs beside the simulation."""

    def __init__(self, target: Callable[[], None], **_: Any) -> None:
        self.start = target


@contextlib.contextmanager
def installed(stage: Stage) -> Iterator[None]:
    """Everything that reaches out of the process reaches the stage's world."""
    clock = SimpleNamespace(
        monotonic=lambda: stage.now_s, time_ns=lambda: int(stage.now_s * 1e6) * 1000, sleep=stage.sleep
    )

    def redis(*_: Any, **__: Any) -> RedisPort:
        world = _world(stage)
        return RedisPort(world, world.process)

    def postgres(*_: Any, **__: Any) -> Connection:
        world = _world(stage)
        world.process.check()
        return Connection(world, stage.servers.database, world.process)

    def kafka(kind: Any) -> Any:
        return lambda *_, **__: kind(_world(stage), stage.servers.broker, _world(stage).process)

    def outbox(_settings: Any, deliver: Any) -> Outbox:
        return Outbox(_world(stage), stage.servers.broker, deliver)

    with contextlib.ExitStack() as stack:
        for module, replacements in {
            # No call of ours stalls here: it is answered, lost, or its process dies.
            watchdog: {"guard": lambda *_: contextlib.nullcontext(), "know": lambda *_: None},
            app: {
                "Consumer": kafka(ConsumerPort),
                "AdminClient": kafka(AdminPort),
                "time": clock,
            },
            preflight: {"Statements": _statements},
            claims: {"connect": postgres, "Thread": _AtOnce},
            database: {"connect": postgres, "pack": _unpacked, "Tries": TriesPort},
            rows: {"pack": _unpacked},
            letterbox: {"Producer": kafka(LetterProducerPort), "time": clock},
            loop: {"Message": Message, "time": clock, "POLL_S": 0.0},
            settle: {"connect": redis, "PATIENCE_S": 0.0},
            producer_cache: {"time": clock},
            threads_line: {"BlockingConnectionPool": mock.Mock(), "Redis": SimpleNamespace(from_pool=redis)},
            producer_writer: {"Outbox": outbox, "time": clock},
            producer_bases: {"time": clock, "sleep": stage.sleep},
        }.items():
            for name, replacement in replacements.items():
                stack.enter_context(mock.patch.object(module, name, replacement))
        logging.disable(logging.CRITICAL)
        stack.callback(logging.disable, logging.NOTSET)
        yield


def _world(stage: Stage) -> World:
    assert stage.world is not None
    return stage.world


def _unpacked(_types: Any, columns: Any) -> list[Any]:
    """In the place of Postgres' binary form, the values themselves."""
    return [list(column) for column in columns]


def _statements(declaration: Declaration, **given: Any) -> Statements:
    """The statements of a declaration are the same in every run, and take long to make."""
    known = _KNOWN.get(declaration.name)
    if known is None:
        known = _KNOWN[declaration.name] = Statements(declaration, **given)
    return known


_KNOWN: dict[str, Statements] = {}

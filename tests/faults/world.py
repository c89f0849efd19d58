"""The servers of a run, their tables and topics, and direct looks at them that no proxy disturbs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

import psycopg
import redis
from confluent_kafka import Consumer, TopicPartition

from tests.faults.entities import DDL, ENTITIES, MODULE
from tests.faults.proxy import Proxy, port_of
from writebehind.embedded import Stack
from writebehind.embedded.ports import LOOPBACK, ReservedPort
from writebehind.flusher.migrate import migrate
from writebehind.shared import naming
from writebehind.shared.declaration import declaration_of
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings, load_settings
from writebehind.shared.strategy import WriteBehind

if TYPE_CHECKING:
    from tests.faults.secured import Secured

Place = tuple[str, int]  # topic, partition

ROOT: Final = Path(__file__).parents[2]
PARTITIONS: Final = 2
ENDS_TIMEOUT_S: Final = 15.0
SETTINGS: Final = {
    "WRITEBEHIND_KAFKA__PARTITIONS": str(PARTITIONS),
    "WRITEBEHIND_DATABASE__LOCK_TIMEOUT_S": "1",
    "WRITEBEHIND_DATABASE__STATEMENT_TIMEOUT_S": "10",
    "WRITEBEHIND_FLUSHER__SESSION_TIMEOUT_S": "6",  # the least a broker allows
    "WRITEBEHIND_FLUSHER__RETRY_DELAY_MAX_S": "1",
    "WRITEBEHIND_FLUSHER__SHUTDOWN_TIMEOUT_S": "5",  # what a SIGTERM costs while the broker is away
    "WRITEBEHIND_PRODUCER__TIMEOUT_S": "5",
    "WRITEBEHIND_PRODUCER__DELIVERY_TIMEOUT_S": "15",  # an audit waits for it before it calls a record lost
    # A machine that is busy must not look like a cache that is down: reads may lag then, and no fault would explain it.
    "WRITEBEHIND_CACHE__TIMEOUT_S": "1",
    "WRITEBEHIND_CACHE__BUDGET_S": "1",
}
POSTGRES: Final = {
    "max_connections": "90",  # so that it takes little to exhaust them; services and flushers may come to 80
    "log_min_messages": "error",
}


class World:
    """Servers, and the settings that lead to them."""

    def __init__(self, stack: Stack, producers: Mapping[str, Proxy], secured: Secured | None = None) -> None:
        self.stack = stack
        self.env = {**stack.env(), **SETTINGS}
        self.producers = producers  # what is between services and each server, by the server's setting
        self._secured = secured
        self._producers_ports = self.entrances({name: producers[name].port for name in ("database", "cache")})
        self.settings = load(self.env)
        prefix, declared = self.settings.kafka.topic_prefix, [declaration_of(cls) for cls in ENTITIES]
        topics = [naming.topic(prefix, one.name) for one in declared if isinstance(one.strategy, WriteBehind)]
        self._invalidations: list[Place] = [(naming.invalidations_topic(prefix), n) for n in range(PARTITIONS)]
        self.places: list[Place] = [(topic, n) for topic in topics for n in range(PARTITIONS)] + self._invalidations

    def prepare(self) -> None:
        """Create tables, bookkeeping and topics."""
        with self.connect() as connection:
            for statement in DDL:
                connection.execute(statement.encode())
        report = migrate(self.settings, Registry(ENTITIES))
        if report.problems:
            raise RuntimeError(f"the tables or topics are not as declared: {report.problems}")
        if self._secured is not None:
            self._secured.give(self.stack, self.env | {"WRITEBEHIND_ENTITIES": MODULE})

    def entrances(self, ports: Mapping[str, int]) -> Mapping[str, int]:
        """Where flushers and services come to, for ports of a database and a cache by these names."""
        return ports if self._secured is None else self._secured.entrances(ports)

    @property
    def producers_env(self) -> dict[str, str]:
        """Settings that lead services through their proxies."""
        broker = self.producers["broker"].port
        if self._secured is None:
            login = self.env | {"WRITEBEHIND_KAFKA__BOOTSTRAP_SERVERS": f"{LOOPBACK}:{broker}"}
        else:
            login = self.env | self._secured.login("producer", self.stack, broker)
        return led_through(login, self._producers_ports)

    @property
    def operators_env(self) -> dict[str, str]:
        """The same for who may do what no role of a service may, such as to replay letters."""
        if self._secured is None:
            return self.producers_env
        return led_through(self.env, {name: self.producers[name].port for name in self._producers_ports})

    @property
    def flushers_env(self) -> dict[str, str]:
        if self._secured is None:
            return self.env
        return self.env | self._secured.login("flusher", self.stack, self._secured.broker_port)

    def connect(self) -> psycopg.Connection[Any]:
        """A connection of the run's own. Raises psycopg.OperationalError while the server is down or full."""
        return psycopg.connect(self.stack.database_url, autocommit=True, connect_timeout=5, application_name="faults")

    def cache(self) -> redis.Redis:
        """A client of the run's own, in no hurry."""
        return redis.Redis.from_url(
            self.stack.cache_url, socket_timeout=10.0, decode_responses=True, client_name="faults"
        )

    def consumer(self) -> Consumer:
        """To look at logs, and at how far the invalidations are carried out; it joins no group and commits nothing."""
        return Consumer(
            {
                "bootstrap.servers": self.stack.bootstrap_servers,
                "group.id": naming.invalidations_group(self.settings.flusher.group),
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )

    def ends(self, consumer: Consumer) -> dict[Place, int]:
        """The end of every partition's log. Raises KafkaException while the broker is down.

        TimeoutError: the consumer hangs. librdkafka's own time-out does not always hold when the broker goes away
        meanwhile (librdkafka#2588), so a thread asks and is left behind. Not the admin client's list_offsets(): after
        a broker was suspended or restarted it goes on with leaders that it remembers (FENCED_LEADER_EPOCH).
        """
        return _patiently(
            lambda: {place: consumer.get_watermark_offsets(TopicPartition(*place), 2.0)[1] for place in self.places}
        )

    def invalidated(self, consumer: Consumer) -> dict[Place, int]:
        """How far invalidations are carried out. Raises as `ends` does."""

        def ask() -> dict[Place, int]:
            found = consumer.committed([TopicPartition(*place) for place in self._invalidations], 2.0)
            return {(one.topic, one.partition): max(0, one.offset) for one in found}

        return _patiently(ask)

    def flushed(self, connection: psycopg.Connection[Any]) -> dict[Place, int]:
        """How far every partition is flushed."""
        rows = connection.execute("SELECT topic, partition, next_offset FROM writebehind.progress").fetchall()
        return {(topic, number): offset for topic, number, offset in rows}

    @property
    def database_port(self) -> int:
        return port_of(self.stack.database_url)

    @property
    def cache_port(self) -> int:
        return port_of(self.stack.cache_url)


def _patiently(ask: Callable[[], dict[Place, int]]) -> dict[Place, int]:
    """What a thread is told that may hang. Raises TimeoutError."""
    answer: Future[dict[Place, int]] = Future()

    def run() -> None:
        try:
            found = ask()
        except Exception as error:  # noqa: BLE001  # raised to who waits for the answer
            answer.set_exception(error)
        else:
            answer.set_result(found)

    Thread(target=run, name="asks", daemon=True).start()
    return answer.result(ENDS_TIMEOUT_S)


@contextmanager
def world(folder: Path, *, secured: bool = False) -> Iterator[World]:
    """Start servers, with all tables and topics; they end with this process, whatever ends it.

    secured: services and flushers come as roles, over TLS.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as opened:
        second = ReservedPort()
        opened.callback(second.release)
        broker = opened.enter_context(Proxy(second.number))
        guard = _guard(opened) if secured else None
        stack = Stack(
            fsync=False,
            kafka_options=_second_listener(second, broker) if guard is None else guard.kafka(second, broker),
            postgres_options=POSTGRES if guard is None else POSTGRES | guard.postgres(),
            valkey_options=None if guard is None else guard.valkey(),
        )
        opened.enter_context(stack)
        proxies = {"broker": broker}
        for name, url in (("database", stack.database_url), ("cache", stack.cache_url)):
            proxies[name] = opened.enter_context(Proxy(port_of(url)))
        made = World(stack, proxies, guard)
        made.prepare()
        yield made


def _guard(opened: ExitStack) -> Secured:
    # Each process of a workload imports this module; certificates and rights are for those who start servers.
    from tests.faults.secured import Secured

    return Secured.made(opened)


def _second_listener(port: ReservedPort, proxy: Proxy) -> dict[str, str]:
    """A broker tells its clients where to go, so whoever comes through the proxy has to be sent back there."""
    return {
        "listeners": f"PROXIED://{LOOPBACK}:{port.number}",
        "advertised.listeners": f"PROXIED://{LOOPBACK}:{proxy.port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT",
    }


def through(url: str, port: int) -> str:
    """The same server behind a proxy."""
    return re.sub(r":\d+/", f":{port}/", url, count=1)


def led_through(env: Mapping[str, str], ports: Mapping[str, int]) -> dict[str, str]:
    """The same settings with other ports of database and cache."""
    settings = {f"WRITEBEHIND_{name.upper()}__URL": port for name, port in ports.items()}
    return {**env, **{setting: through(env[setting], port) for setting, port in settings.items()}}


def process_environment(env: Mapping[str, str]) -> dict[str, str]:
    """What a child process gets: ours without its settings, and those that are given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WRITEBEHIND_")}
    # Ended with SIGABRT, a process leaves the stack of every thread in its log.
    return {**kept, **env, "PYTHONFAULTHANDLER": "1"}


def started(env: Mapping[str, str], *arguments: str) -> subprocess.Popen[str]:
    """A command as people run it, on our entities; all that it says comes by its standard output."""
    return subprocess.Popen(
        [sys.executable, "-m", "writebehind.flusher", *arguments, "--entities", MODULE],
        cwd=ROOT,
        env=process_environment(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def load(env: Mapping[str, str]) -> Settings:
    """Settings from `env` alone, whatever this process's own environment holds."""
    groups: dict[str, dict[str, Any]] = {}
    for name, value in env.items():
        group, _, setting = name.removeprefix("WRITEBEHIND_").lower().partition("__")
        groups.setdefault(group, {})[setting] = value
    return load_settings(**groups)

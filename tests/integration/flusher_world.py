"""One flusher test's corner of the servers: tables, topics, the records put on them, and what must come of them."""

from __future__ import annotations

import itertools
import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from psycopg import sql

from tests.faults.proxy import Proxy, port_of
from tests.faults.wire import Plain, Wire
from tests.integration.flusher_entities import DDL
from tests.integration.flusher_process import TIMEOUT_S, Flusher, run_command, wait_until
from tests.integration.flusher_tally import Tally
from tests.integration.guarded import Corner
from tests.integration.secured import PROXIES
from writebehind.embedded.isolation import Isolation
from writebehind.shared import naming
from writebehind.shared.declaration import declaration_of
from writebehind.shared.entity import Entity
from writebehind.shared.record import Codec
from writebehind.shared.registry import Registry

FIRST_VERSION = 1_700_000_000_000_000
KAFKA_OPTIONS = "WRITEBEHIND_KAFKA__OPTIONS"
SETTINGS = {
    "WRITEBEHIND_FLUSHER__SESSION_TIMEOUT_S": "6",  # the least a broker allows
    "WRITEBEHIND_FLUSHER__RETRY_DELAY_MAX_S": "0.3",
}


class World:
    """Made by `world`. `tally` knows what the tables must hold when all records are flushed.

    `env` is the operator's; a part of the product comes with `env_of` its role. `corner` is plain where the world is
    that of a benchmark, and then every role is the operator.
    """

    def __init__(self, corner: Isolation, folder: Path, entities: Sequence[type[Entity]], partitions: int) -> None:
        self.corner = corner
        self.folder = folder
        self.entities = entities
        self.env = {**corner.env, **SETTINGS, "WRITEBEHIND_KAFKA__PARTITIONS": str(partitions)}
        self.tally = Tally()
        self.flushers: list[Flusher] = []
        self.registry = Registry(entities)
        self._versions = itertools.count(FIRST_VERSION)
        self._codecs = {cls: Codec(declaration_of(cls)) for cls in entities}
        self.producer = Producer(
            {"bootstrap.servers": corner.bootstrap_servers, "enable.idempotence": True, "partitioner": "murmur2_random"}
        )
        self.consumer = Consumer({"bootstrap.servers": corner.bootstrap_servers, "group.id": f"{corner.group}-test"})
        self.admin = AdminClient({"bootstrap.servers": corner.bootstrap_servers})
        self.cache = redis.Redis.from_url(corner.cache_url, decode_responses=True)

    def migrate(self) -> None:
        """Create the tables, the bookkeeping and the topics, each as who does it, and give the roles their rights."""
        for statement in dict.fromkeys(DDL[cls] for cls in self.entities):
            self.execute(statement)
        self.give("migrator")
        named = [part for path in self._paths for part in ("--entities", path)]
        run_command(self.env_of("migrator"), "migrate", *named)
        self.give("producer", "flusher", "auditor")

    def give(self, *roles: str, **env: str) -> None:
        """Give roles the rights that they need for the tables and topics there are, with such settings."""
        if isinstance(self.corner, Corner):
            self.corner.give(self.registry, {**self.env, **env}, *roles)

    def env_of(self, role: str, **env: str) -> dict[str, str]:
        """A role's settings; `env` overrides them."""
        return {**self.env, **(self.corner.env_of(role) if isinstance(self.corner, Corner) else {}), **env}

    def kafka_options(self, **options: str) -> dict[str, str]:
        """The setting of a flusher's librdkafka options, these beside those of its login; `_` stands for a dot."""
        login = json.loads(self.env_of("flusher")[KAFKA_OPTIONS])
        return {KAFKA_OPTIONS: json.dumps(login | {name.replace("_", "."): value for name, value in options.items()})}

    def through(self, **proxies: Proxy) -> dict[str, str]:
        """The settings with which a flusher comes to `database` or `cache` by way of a proxy."""
        assert isinstance(self.corner, Corner)
        env = self.corner.env_of("flusher", **{name: proxy.port for name, proxy in proxies.items()})
        return {setting: env[setting] for setting in [f"WRITEBEHIND_{name.upper()}__URL" for name in proxies]}

    def flusher(self, *arguments: str, **env: str) -> Flusher:
        """Start a flusher of all entities; `env` overrides settings. It is ended with the test."""
        log_path = self.folder / f"{self.corner.schema}-{len(self.flushers)}.log"
        if "WRITEBEHIND_FLUSHER__GROUP" in env:
            self.give("flusher", **env)
        flusher = Flusher(self.env_of("flusher", **env), self._paths, log_path, arguments)
        self.flushers.append(flusher)
        return flusher

    def database_proxy(self, wire: Callable[[], Wire] = Plain) -> Proxy:
        """A proxy in front of the database."""
        return Proxy(self.database_port, wire, source=PROXIES)

    def cache_proxy(self, wire: Callable[[], Wire] = Plain) -> Proxy:
        """A proxy in front of the cache."""
        return Proxy(port_of(self.corner.cache_url), wire)

    def put(
        self,
        cls: type[Entity],
        key: Any,
        *,
        version: int | None = None,
        generation: int = 0,
        partition: int | None = None,
        **patch: Any,
    ) -> int:
        """Put a write on its topic, as the producer would. An empty patch deletes. Gives its version."""
        version = next(self._versions) if version is None else version
        declaration = declaration_of(cls)
        wire_key = declaration.check_key(key)
        fields = declaration.check_patch(patch) if patch else []
        self.tally.add(cls, wire_key, version, patch)
        wire = [(c.position, v if v is None or c.kind.to_wire is None else c.kind.to_wire(v)) for c, v in fields]
        value = self._codecs[cls].encode(version, generation, wire_key, wire)
        self.raw(cls, value, declaration.key_text(wire_key), partition)
        return version

    def hash(self, cls: type[Entity], key: Any) -> dict[str, str]:
        """The cache entry as it is."""
        return {str(name): str(value) for name, value in self.cache.hgetall(self.entry(cls, key)).items()}

    def raw(self, cls: type[Entity], value: bytes, key_text: str, partition: int | None = None) -> None:
        """Put any bytes on an entity's topic."""
        if partition is None:
            self.producer.produce(self.topic(cls), value, key_text.encode())
        else:
            self.producer.produce(self.topic(cls), value, key_text.encode(), partition=partition)

    def load(self, cls: type[Entity], records: int, *, keys: int = 20, seed: int = 1) -> None:
        """Put writes of random keys of `Counter`'s shape and send them."""
        chance = random.Random(seed)
        for number in range(records):
            size = chance.randrange(-1000, 1000)
            self.put(cls, chance.randrange(keys), hits=chance.randrange(1, 9), high=size, low=size, note=f"n{number}")
        self.send()

    def send(self) -> None:
        """Wait until the broker has everything."""
        assert self.producer.flush(TIMEOUT_S) == 0

    def topic(self, cls: type[Entity]) -> str:
        return naming.topic(self.corner.topic_prefix, declaration_of(cls).name)

    def entry(self, cls: type[Entity], key: Any) -> str:
        """The name of a key's cache entry."""
        declaration = declaration_of(cls)
        return naming.cache_key(
            self.corner.cache_prefix, declaration.name, declaration.key_text(declaration.check_key(key))
        )

    def ends(self, cls: type[Entity]) -> dict[int, int]:
        """The end of each partition's log."""
        topic = self.topic(cls)
        partitions = self.admin.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions
        return {
            n: self.consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=TIMEOUT_S)[1] for n in partitions
        }

    def progress(self, cls: type[Entity]) -> dict[int, int]:
        """How far each partition is flushed."""
        return dict(self.query("SELECT partition, next_offset FROM {}.progress WHERE topic = %s", self.topic(cls)))

    def flushed(self, *entities: type[Entity]) -> bool:
        """Whether everything that was sent is in the database."""
        return all(
            progress.get(number, 0) >= end
            for cls in entities or self.entities
            for progress, ends in [(self.progress(cls), self.ends(cls))]
            for number, end in ends.items()
        )

    def wait_flushed(self, *entities: type[Entity]) -> None:
        """Wait until everything that was sent is in the database."""
        self.send()
        self.wait(lambda: self.flushed(*entities), "everything to be flushed")

    def wait_moving(self, cls: type[Entity]) -> None:
        """Wait until something more is flushed."""
        before = sum(self.progress(cls).values())
        self.wait(lambda: sum(self.progress(cls).values()) > before, "something more to be flushed")

    def wait(self, condition: Any, what: str) -> None:
        """Wait until something is so, while every flusher that should live does."""

        def so() -> bool:
            for flusher in self.flushers:
                flusher.check()
            return bool(condition())

        try:
            wait_until(so, what)
        except AssertionError as error:
            logs = "\n".join(f"--- {f.log_path.name} ---\n{f.log[-6000:]}" for f in self.flushers)
            raise AssertionError(
                f"{error}\n{[(c.__name__, self.progress(c), self.ends(c)) for c in self.entities]}\n{logs}"
            ) from None

    def check(self) -> None:
        """Every table holds exactly what its records say."""
        for cls in self.entities:
            self.tally.check(cls, self.rows(cls))

    def rows(self, cls: type[Entity]) -> dict[tuple[Any, ...], dict[str, Any]]:
        """An entity's columns by key."""
        declaration = declaration_of(cls)
        names = [c.name for c in (*declaration.keys, *declaration.fields)]
        columns = sql.SQL(", ").join([sql.Identifier(name) for name in names])
        table = sql.Identifier(self.corner.schema, declaration.table)
        with self.connect() as connection:
            found = connection.execute(sql.SQL("SELECT {} FROM {}").format(columns, table)).fetchall()
        width = len(declaration.keys)
        return {tuple(row[:width]): dict(zip(names[width:], row[width:], strict=True)) for row in found}

    def query(self, text: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of a query, `{}` is the bookkeeping schema."""
        statement = text.format(f'"{self.corner.bookkeeping_schema}"').encode()
        with self.connect() as connection:
            return connection.execute(statement, parameters).fetchall()

    def execute(self, text: str) -> None:
        with self.connect() as connection:
            connection.execute(text.encode())

    def end_flushers(self) -> None:
        for flusher in self.flushers:
            flusher.close()

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.corner.database_url, autocommit=True, application_name="test")

    @property
    def database_port(self) -> int:
        return port_of(self.corner.database_url)

    @property
    def _paths(self) -> list[str]:
        return [f"{cls.__module__}:{cls.__name__}" for cls in self.entities]


@contextmanager
def world(
    corner: Isolation, folder: Path, *entities: type[Entity], partitions: int = 2, plain: bool = False
) -> Iterator[World]:
    """A world with its tables and topics; its flushers are ended at the end, whatever happened.

    plain: on servers that know no roles, for benchmarks.
    """
    assert isinstance(corner, Corner) is not plain
    with ExitStack() as stack:
        made = World(corner, folder, entities, partitions)
        stack.callback(made.cache.close)
        stack.callback(made.consumer.close)
        stack.callback(made.end_flushers)
        made.migrate()
        yield made


@contextmanager
def writing(w: World, cls: type[Entity]) -> Iterator[None]:
    """Records of `Counter`'s shape flow, from a thread of their own, until the end of the block."""
    stop = threading.Event()

    def write() -> None:
        for seed in itertools.count(1000):
            if stop.wait(0.02):
                return
            w.load(cls, 20, seed=seed)

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        try:
            yield
        finally:
            stop.set()
            writer.result(2 * TIMEOUT_S)

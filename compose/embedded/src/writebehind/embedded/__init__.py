"""Kafka, PostgreSQL and Valkey as child processes, from packages alone.

Light to import: nothing here loads a client library or looks at the network before a server is started.
"""

from writebehind.embedded.errors import EmbeddedError
from writebehind.embedded.isolation import ExistingServers, Isolation, isolated
from writebehind.embedded.kafka import Kafka
from writebehind.embedded.postgres import Postgres
from writebehind.embedded.stack import Stack
from writebehind.embedded.valkey import Valkey

__all__ = [
    # The servers
    "Stack",
    "Kafka",
    "Postgres",
    "Valkey",
    "EmbeddedError",
    # Sharing them between tests
    "ExistingServers",
    "Isolation",
    "isolated",
]

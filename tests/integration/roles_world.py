"""Servers that are reached over TLS and ask who somebody is, and a corner of them where each part has the rights that
`grants` prints. All settings are those of the production profile, which refuses what could be read on the way.
"""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from tests.integration.flusher_process import run_command
from tests.integration.mixed_world import DDL as PEOPLE
from tests.integration.secured import Certificates, terminated
from writebehind.embedded import Isolation, Stack
from writebehind.embedded.isolation import isolated
from writebehind.embedded.ports import LOOPBACK, ReservedPort
from writebehind.shared.settings import Settings, load_settings

MODULES: Final = ("tests.integration.mixed_world", "tests.integration.flusher_entities:Item")
ROLES: Final = ("migrator", "producer", "flusher", "auditor")
SECRET: Final = "only-for-this-test"  # every role's password
DDL: Final = (
    f"{PEOPLE}; ALTER TABLE people ADD secret text; "
    "CREATE TABLE items (id bigint PRIMARY KEY, title text, stock bigint NOT NULL DEFAULT 0, best bigint, "
    "versions bigint[], secret text)"
)
OPERATIONS: Final = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}


@dataclass(frozen=True)
class Guarded:
    """A stack whose broker also listens for users with passwords (SCRAM), and lets nobody do what no ACL allows.

    The cache is reached at `cache_port`, the database at its own. `authority` is the file to verify all of them by.
    """

    stack: Stack
    bootstrap_servers: str
    cache_port: int
    authority: str


@contextmanager
def guarded() -> Iterator[Guarded]:
    """Nobody is asked for a password on the stack's own listener: who comes there may do everything."""
    port = ReservedPort()
    place = f"SECURED://{LOOPBACK}:{port.number}"
    options = {
        "listeners": place,
        "advertised.listeners": place,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURED:SASL_SSL",
        "sasl.enabled.mechanisms": "SCRAM-SHA-256",
        "listener.name.secured.scram-sha-256.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    try:
        with ExitStack() as opened:
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="writebehind-tls-")))
            made = Certificates.made(folder)
            options |= made.kafka("secured")
            stack = opened.enter_context(
                Stack(fsync=False, kafka_options=options, postgres_options=made.postgres(folder))
            )
            cache_port = opened.enter_context(terminated(made, stack.valkey.port))
            yield Guarded(stack, f"{LOOPBACK}:{port.number}", cache_port, str(made.authority))
    finally:
        port.release()


@dataclass
class Roles:
    """A corner with tables and, for each role, all that it needs to log in. `env(role)`: its settings."""

    corner: Isolation
    servers: Guarded
    kafka: dict[str, Any] = field(default_factory=dict[str, Any])

    def env(self, role: str) -> dict[str, str]:
        name = f"writebehind_{role}"
        database, cache = urlsplit(self.corner.database_url), urlsplit(self.corner.cache_url)
        return {
            **self.corner.env,
            "WRITEBEHIND_PROFILE": "production",
            "WRITEBEHIND_ENTITIES": ",".join(MODULES),
            "WRITEBEHIND_DATABASE__URL": urlunsplit(
                database._replace(
                    netloc=f"{name}:{SECRET}@{database.hostname}:{database.port}",
                    query="&".join(
                        filter(None, [database.query, f"sslmode=verify-full&sslrootcert={self.servers.authority}"])
                    ),
                )
            ),
            "WRITEBEHIND_CACHE__URL": urlunsplit(
                cache._replace(
                    scheme="rediss",
                    netloc=f"{name}:{SECRET}@{LOOPBACK}:{self.servers.cache_port}",
                    query=f"ssl_ca_certs={self.servers.authority}",
                )
            ),
            "WRITEBEHIND_KAFKA__BOOTSTRAP_SERVERS": self.servers.bootstrap_servers,
            "WRITEBEHIND_KAFKA__OPTIONS": json.dumps(self.kafka_login(name)),
            "WRITEBEHIND_KAFKA__PARTITIONS": "2",
            "WRITEBEHIND_FLUSHER__SESSION_TIMEOUT_S": "6",
        }

    def kafka_login(self, name: str) -> dict[str, str]:
        """librdkafka's options."""
        return {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": self.servers.authority,
            "sasl.mechanism": "SCRAM-SHA-256",
            "sasl.username": name,
            "sasl.password": SECRET,
        }

    def settings(self, role: str, **groups: Mapping[str, Any]) -> Settings:
        """A role's settings, for what runs in this process."""
        with pytest.MonkeyPatch.context() as patched:
            for variable, value in self.env(role).items():
                patched.setenv(variable, value)
            return load_settings(**groups)

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """As the superuser. `{}` is the bookkeeping schema."""
        return execute(self.corner.database_url, statement, self.corner.bookkeeping_schema)

    def give(self, *roles: str) -> None:
        """Run what `writebehind grants` prints for these roles, and give each its password."""
        named = [part for role in roles for part in ("--role", role)]
        told = run_command(self.env("migrator"), "grants", "--json", "--tables-in", self.corner.schema, *named)
        admin = AdminClient({"bootstrap.servers": self.corner.bootstrap_servers})
        for one in json.loads(told)["roles"]:
            for statement in one["sql"]:
                execute(self.corner.database_url, statement)
            execute(self.corner.database_url, f"ALTER ROLE {one['name']} PASSWORD '{SECRET}'")
            with redis.Redis.from_url(self.corner.cache_url) as cache:
                for statement in one["cache"]:
                    cache.execute_command(*shlex.split(statement))
                    cache.acl_setuser(one["name"], enabled=True, passwords=[f"+{SECRET}"])
            bindings = [binding for command in one["kafka"] for binding in _bindings(command, one["name"])]
            for future in admin.create_acls(bindings).values():
                future.result(30)


def execute(url: str, statement: str, bookkeeping: str = "") -> list[tuple[Any, ...]]:
    """Run a statement as whom the URL names."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.replace("{}", f'"{bookkeeping}"').encode())
        return cursor.fetchall() if cursor.description else []


@contextmanager
def roles(servers: Guarded) -> Iterator[Roles]:
    """Tables, the migrator's rights and its migration, then everybody's."""
    admin = AdminClient({"bootstrap.servers": servers.stack.bootstrap_servers})
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
    users: list[UserScramCredentialAlteration] = [
        UserScramCredentialUpsertion(f"writebehind_{role}", info, SECRET.encode()) for role in ROLES
    ]
    for future in admin.alter_user_scram_credentials(users).values():
        future.result(30)
    with isolated(servers.stack.env()) as corner:
        made = Roles(corner, servers)
        made.execute(DDL)
        try:
            made.give("migrator")
            run_command(made.env("migrator"), "migrate")
            made.give("producer", "flusher", "auditor")
            yield made
        finally:
            for role in ROLES:
                made.execute(f"DROP OWNED BY writebehind_{role} CASCADE")
                made.execute(f"DROP ROLE writebehind_{role}")


def _bindings(command: str, name: str) -> list[AclBinding]:
    """What a `kafka-acls` command would do."""
    words = shlex.split(command)
    assert words[words.index("--allow-principal") + 1] == f"User:{name}"
    kind = "--topic" if "--topic" in words else "--group"
    pattern = ResourcePatternType.PREFIXED if "prefixed" in words else ResourcePatternType.LITERAL
    operations = [words[at + 1] for at, word in enumerate(words) if word == "--operation"]
    return [
        AclBinding(
            ResourceType.TOPIC if kind == "--topic" else ResourceType.GROUP,
            words[words.index(kind) + 1],
            pattern,
            f"User:{name}",
            "*",
            OPERATIONS[operation],
            AclPermissionType.ALLOW,
        )
        for operation in operations
    ]

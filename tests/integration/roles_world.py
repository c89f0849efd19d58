"""Servers that are reached over TLS and ask who somebody is, and a corner of them where each part has the rights that
`grants` prints. All settings are those of the production profile, which refuses what could be read on the way.
"""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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
from tests.integration.flusher_world import through
from tests.integration.mixed_world import DDL as PEOPLE
from tests.integration.secured import Certificates, terminated
from writebehind.embedded import Isolation, Stack
from writebehind.embedded.isolation import ExistingServers, isolated
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
    try:
        with ExitStack() as opened:
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="writebehind-tls-")))
            made = Certificates.made(folder)
            listeners = sasl_listeners(made, {"secured": (port.number, port.number)})
            stack = opened.enter_context(
                Stack(fsync=False, kafka_options=listeners, postgres_options=made.postgres(folder))
            )
            cache_port = opened.enter_context(terminated(made, stack.valkey.port))
            yield Guarded(stack, f"{LOOPBACK}:{port.number}", cache_port, str(made.authority))
    finally:
        port.release()


def sasl_listeners(certificates: Certificates, ports: Mapping[str, tuple[int, int]]) -> dict[str, str]:
    """Options of a broker that also listens, by the names of listeners, at a port, and sends clients to another.

    Who comes there has a password (SCRAM) and only the rights that an ACL gives.
    """
    options = {
        "listeners": ",".join(f"{name.upper()}://{LOOPBACK}:{port}" for name, (port, _) in ports.items()),
        "advertised.listeners": ",".join(f"{name.upper()}://{LOOPBACK}:{told}" for name, (_, told) in ports.items()),
        "listener.security.protocol.map": ",".join(
            ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT", *(f"{name.upper()}:SASL_SSL" for name in ports)]
        ),
        "sasl.enabled.mechanisms": "SCRAM-SHA-256",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    for name in ports:
        options[f"listener.name.{name}.scram-sha-256.sasl.jaas.config"] = (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        )
        options |= certificates.kafka(name)
    return options


@dataclass
class Roles:
    """A corner with tables and, for each role, all that it needs to log in. `env(role)`: its settings."""

    corner: Isolation
    servers: Guarded

    def env(self, role: str) -> dict[str, str]:
        cache_url = through(self.corner.cache_url, self.servers.cache_port)
        servers = ExistingServers(self.servers.bootstrap_servers, self.corner.database_url, cache_url)
        return {
            **self.corner.env,
            **login(role, servers, self.servers.authority),
            "WRITEBEHIND_ENTITIES": ",".join(MODULES),
            "WRITEBEHIND_KAFKA__PARTITIONS": "2",
            "WRITEBEHIND_FLUSHER__SESSION_TIMEOUT_S": "6",
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
        corner = self.corner
        servers = ExistingServers(corner.bootstrap_servers, corner.database_url, corner.cache_url)
        give(servers, self.env("migrator"), corner.schema, roles)


def give(servers: ExistingServers, env: Mapping[str, str], schema: str, roles: Sequence[str]) -> None:
    """Run what `writebehind grants` prints for these roles, and give each its password. `env`: who asks for them."""
    named = [part for role in roles for part in ("--role", role)]
    told = run_command(env, "grants", "--json", "--tables-in", schema, *named)
    admin = AdminClient({"bootstrap.servers": servers.bootstrap_servers})
    for one in json.loads(told)["roles"]:
        for statement in one["sql"]:
            execute(servers.database_url, statement)
        execute(servers.database_url, f"ALTER ROLE {one['name']} PASSWORD '{SECRET}'")
        with redis.Redis.from_url(servers.cache_url) as cache:
            for statement in one["cache"]:
                cache.execute_command(*shlex.split(statement))
                cache.acl_setuser(one["name"], enabled=True, passwords=[f"+{SECRET}"])
        bindings = [binding for command in one["kafka"] for binding in _bindings(command, one["name"])]
        for future in admin.create_acls(bindings).values():
            future.result(30)


def let_log_in(bootstrap_servers: str, roles: Sequence[str]) -> None:
    """Give the roles' users their password in Kafka."""
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
    users: list[UserScramCredentialAlteration] = [
        UserScramCredentialUpsertion(f"writebehind_{role}", info, SECRET.encode()) for role in roles
    ]
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    for future in admin.alter_user_scram_credentials(users).values():
        future.result(30)


def login(role: str, servers: ExistingServers, authority: str) -> dict[str, str]:
    """The settings with which a role comes to these servers over TLS."""
    name = f"writebehind_{role}"
    database, cache = urlsplit(servers.database_url), urlsplit(servers.cache_url)
    verified = f"sslmode=verify-full&sslrootcert={authority}"
    return {
        "WRITEBEHIND_PROFILE": "production",
        "WRITEBEHIND_DATABASE__URL": urlunsplit(
            database._replace(
                netloc=f"{name}:{SECRET}@{database.hostname}:{database.port}",
                query="&".join(filter(None, [database.query, verified])),
            )
        ),
        "WRITEBEHIND_CACHE__URL": urlunsplit(
            cache._replace(
                scheme="rediss",
                netloc=f"{name}:{SECRET}@{cache.hostname}:{cache.port}",
                query=f"ssl_ca_certs={authority}",
            )
        ),
        "WRITEBEHIND_KAFKA__BOOTSTRAP_SERVERS": servers.bootstrap_servers,
        "WRITEBEHIND_KAFKA__OPTIONS": json.dumps(kafka_login(name, authority)),
    }


def kafka_login(name: str, authority: str) -> dict[str, str]:
    """librdkafka's options."""
    return {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": authority,
        "sasl.mechanism": "SCRAM-SHA-256",
        "sasl.username": name,
        "sasl.password": SECRET,
    }


def execute(url: str, statement: str, bookkeeping: str = "") -> list[tuple[Any, ...]]:
    """Run a statement as whom the URL names."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.replace("{}", f'"{bookkeeping}"').encode())
        return cursor.fetchall() if cursor.description else []


@contextmanager
def roles(servers: Guarded) -> Iterator[Roles]:
    """Tables, the migrator's rights and its migration, then everybody's."""
    let_log_in(servers.stack.bootstrap_servers, ROLES)
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

"""How a role logs in to servers that ask who somebody is: over TLS, with a password, in the production profile."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import SplitResult, urlsplit

from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from tests.integration.secured import Certificates
from writebehind.embedded.isolation import ExistingServers
from writebehind.embedded.ports import LOOPBACK

SECRET: Final = "only-for-this-test"  # every role's password
_TIMEOUT_S: Final = 60.0


def let_log_in(bootstrap_servers: str, roles: Sequence[str]) -> None:
    """Give the roles' users their password in Kafka."""
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
    users: list[UserScramCredentialAlteration] = [
        UserScramCredentialUpsertion(f"writebehind_{role}", info, SECRET.encode()) for role in roles
    ]
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 3})  # it tells of its own end, at 6
    for future in admin.alter_user_scram_credentials(users).values():
        future.result(_TIMEOUT_S)


def login(role: str, servers: ExistingServers, authority: str) -> dict[str, str]:
    """The settings with which a role comes to these servers over TLS."""
    name = f"writebehind_{role}"
    database, cache = urlsplit(servers.database_url), urlsplit(servers.cache_url)
    verified = f"sslmode=verify-full&sslrootcert={authority}"
    return {
        "WRITEBEHIND_PROFILE": "production",
        "WRITEBEHIND_DATABASE__URL": _as_user(database, name)
        ._replace(query="&".join(filter(None, [database.query, verified])))
        .geturl(),
        "WRITEBEHIND_CACHE__URL": _as_user(cache, name)
        ._replace(scheme="rediss", query=f"ssl_ca_certs={authority}")
        .geturl(),
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


def _as_user(url: SplitResult, name: str) -> SplitResult:
    return url._replace(netloc=f"{name}:{SECRET}@{url.hostname}:{url.port}")

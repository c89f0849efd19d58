"""Servers that are reached over TLS and ask who somebody is, and a test's corner of them, to which each part of the
product comes as its role, with the rights that `grants` prints and no others.

The test itself comes to the servers' own listeners, as somebody who may do everything: to look, to break things, and as
an operator to do what no role may.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from confluent_kafka.admin import AdminClient

from tests.integration.logins import kafka_login, let_log_in, login, sasl_listeners
from tests.integration.rights import give, keys_of, take_acls
from tests.integration.secured import Certificates, terminated
from writebehind.embedded import Isolation, Stack
from writebehind.embedded.isolation import ExistingServers, isolated
from writebehind.embedded.ports import LOOPBACK, ReservedPort
from writebehind.flusher.grants.command import grants
from writebehind.flusher.grants.roles import Role
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings, load_settings

ROLES: Final = ("migrator", "producer", "flusher", "auditor")
OPERATOR: Final = "operator"  # what no role may do
_TIMEOUT_S: Final = 90.0
_ENVIRONMENT: Final = threading.Lock()  # there is one, and tests of several worlds at once


class Guarded(Stack):
    """A stack whose broker also listens for users with passwords (SCRAM), and lets nobody do what no ACL allows.

    Nobody is asked for a password on its own listeners. A role comes to `guarded_bootstrap_servers`, to the database
    where everybody does, and to the cache at `cache_port`; `authority` is the file to verify all of them by. Roles are
    the servers', and not a corner's: each has the rights of all corners there are.
    """

    def __init__(self, opened: ExitStack, *, appendonly: bool = False) -> None:
        """Certificates, ports and users of the cache, which outlive it, are given back with `opened`."""
        self._opened = opened
        self._giving = threading.Lock()
        self._keys: dict[str, dict[str, str]] = {}
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="writebehind-tls-")))
        users = folder / "users.acl"
        users.touch()
        self.certificates = Certificates.made(folder)
        self.authority = str(self.certificates.authority)
        port = ReservedPort()
        opened.callback(port.release)
        self.guarded_bootstrap_servers = f"{LOOPBACK}:{port.number}"
        super().__init__(
            fsync=False,
            appendonly=appendonly,
            kafka_options=sasl_listeners(self.certificates, {"secured": (port.number, port.number)}),
            postgres_options=self.certificates.postgres(folder),
            valkey_options={"aclfile": str(users)},
        )

    def open(self) -> None:
        """Start, and let the roles log in to the broker."""
        self.start()
        self.cache_port = self.entrance(self.valkey.port)
        let_log_in(self.bootstrap_servers, ROLES)
        # The controller knows them, and a moment later the broker does: then one of them gets in.
        somebody = kafka_login("writebehind_auditor", self.authority)
        admin = AdminClient({"bootstrap.servers": self.guarded_bootstrap_servers, "log_level": 2, **somebody})
        admin.list_topics(timeout=_TIMEOUT_S)

    def entrance(self, port: int, *, postgres: bool = False) -> int:
        """A port that speaks TLS for another, as long as the stack."""
        return self._opened.enter_context(terminated(self.certificates, port, postgres=postgres))

    @contextmanager
    def corner(self) -> Iterator[Corner]:
        """A fresh corner; what roles were allowed in it is taken back at the end."""
        with isolated(self.env()) as made:
            try:
                yield Corner(**vars(made), servers=self)
            finally:
                with self._giving:
                    self._keys.pop(made.cache_prefix, None)
                take_acls(made)

    def give(self, corner: Corner, found: Sequence[Mapping[str, Any]]) -> None:
        """Run what `writebehind grants` prints. A user of the cache keeps its keys in other corners."""
        with self._giving:
            keys = self._keys.setdefault(corner.cache_prefix, {})
            keys |= keys_of(found)
            give(corner.plain, found, self._keys.values())


@contextmanager
def guarded(*, appendonly: bool = False) -> Iterator[Guarded]:
    """Such a stack, running. `appendonly`: its cache comes back with what it had."""
    with ExitStack() as opened:
        made = Guarded(opened, appendonly=appendonly)
        opened.callback(made.close)
        made.open()
        yield made


@dataclass(frozen=True)
class Corner(Isolation):
    """A corner of a guarded stack. Its URLs and `env` are the operator's."""

    servers: Guarded

    def env_of(self, role: str, *, database: int | None = None, cache: int | None = None) -> dict[str, str]:
        """A role's settings in the production profile. `database`, `cache`: ports of proxies to come by.

        What no role may do is an operator's, who is not asked.
        """
        if role == OPERATOR:
            return self.env
        servers = self.servers
        enter = servers.cache_port if cache is None else servers.entrance(cache)
        database_url = self.database_url
        if database is not None:
            database_url = through(database_url, servers.entrance(database, postgres=True))
        places = ExistingServers(servers.guarded_bootstrap_servers, database_url, through(self.cache_url, enter))
        return {**self.env, **login(role, places, servers.authority)}

    @property
    def plain(self) -> ExistingServers:
        """Where who may do everything comes to."""
        return ExistingServers(self.bootstrap_servers, self.database_url, self.cache_url)

    def give(self, registry: Registry, env: Mapping[str, str], *roles: str) -> None:
        """Run what `writebehind grants` prints for these roles and settings, and give each its password."""
        settings = settings_of({**self.env, **env})
        found = grants(settings, registry, [Role(role) for role in roles], {}, tables_in=self.schema, repairs=False)
        self.servers.give(self, found)


def settings_of(env: Mapping[str, str], **groups: Mapping[str, Any]) -> Settings:
    """Settings from such variables, for what runs in this process."""
    with _ENVIRONMENT, pytest.MonkeyPatch.context() as patched:
        for variable, value in env.items():
            patched.setenv(variable, value)
        return load_settings(**groups)


def through(url: str, port: int) -> str:
    """The same server by way of another port."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{port}")).geturl()

"""Runs in which services and flushers come as the roles that `grants` makes, over TLS and with a password.

The proxies have to read what they pass on, so TLS ends right in front of each: a client is cut from its server as it is
without, and speaks as it would in production. The run itself, its audits and its replays come to the servers' own
listeners: they are an operator's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.proxy import Proxy
from tests.integration.logins import let_log_in, login, sasl_listeners
from tests.integration.rights import give, printed
from tests.integration.secured import Certificates, terminated
from writebehind.embedded import Stack
from writebehind.embedded.isolation import ExistingServers
from writebehind.embedded.ports import LOOPBACK, ReservedPort

ROLES: Final = ("producer", "flusher")


@dataclass(frozen=True)
class Secured:
    """What it takes to come over TLS. `broker_port`: where flushers come to; producers have a proxy to theirs."""

    opened: ExitStack
    folder: Path
    certificates: Certificates
    broker_port: int

    @classmethod
    def made(cls, opened: ExitStack) -> Secured:
        """Certificates, and a port for the broker. All is given back with `opened`."""
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="writebehind-tls-")))
        port = ReservedPort()
        opened.callback(port.release)
        (folder / "users.acl").touch()
        return cls(opened, folder, Certificates.made(folder), port.number)

    def kafka(self, proxied: ReservedPort, proxy: Proxy) -> dict[str, str]:
        """The broker's options: a listener behind the producers' proxy, and one for flushers."""
        ports = {"proxied": (proxied.number, proxy.port), "roles": (self.broker_port, self.broker_port)}
        return sasl_listeners(self.certificates, ports)

    def postgres(self) -> dict[str, str]:
        return self.certificates.postgres(self.folder, ended_before=True)

    def valkey(self) -> dict[str, str]:
        """Users outlive the server."""
        return {"aclfile": str(self.folder / "users.acl")}

    def entrances(self, ports: Mapping[str, int]) -> dict[str, int]:
        """Where to come to over TLS, for ports of a database and a cache by these names."""
        return {
            name: self.opened.enter_context(terminated(self.certificates, port, postgres=name == "database"))
            for name, port in ports.items()
        }

    def give(self, stack: Stack, env: Mapping[str, str]) -> None:
        """Rights and passwords, once there are tables and topics."""
        let_log_in(stack.bootstrap_servers, ROLES)
        servers = ExistingServers(stack.bootstrap_servers, stack.database_url, stack.cache_url)
        give(servers, printed(env, "public", ROLES))

    def login(self, role: str, stack: Stack, broker_port: int) -> dict[str, str]:
        """A role's settings, but for the ports of database and cache."""
        servers = ExistingServers(f"{LOOPBACK}:{broker_port}", stack.database_url, stack.cache_url)
        return login(role, servers, str(self.certificates.authority))

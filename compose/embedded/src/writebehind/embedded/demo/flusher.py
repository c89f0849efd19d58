"""The flusher of the demo: a process of its own, which can be killed as a power cut would and started again."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from writebehind.embedded.errors import EmbeddedError
from writebehind.embedded.supervisor import Supervisor

ENTITIES: Final = "writebehind.embedded.demo.entities"
_LOG_LINES: Final = 20
_STOP_TIMEOUT_S: Final = 12.0  # the flusher itself promises 10 s
_POLL_S: Final = 0.05


def command(*arguments: str) -> list[str]:
    """The `writebehind` command of this installation, whatever PATH says."""
    return [sys.executable, "-m", "writebehind.flusher", *arguments]


class Flusher:
    """`writebehind flush`, ended with this process whatever ends it. `folder` receives its log."""

    def __init__(
        self, supervisor: Supervisor, folder: Path, environment: Mapping[str, str], entities: str = ENTITIES
    ) -> None:
        self._supervisor = supervisor
        self._folder = folder
        self._environment = dict(environment)
        self._entities = entities
        self._pid: int | None = None
        self.kills = 0

    @property
    def log_path(self) -> Path:
        return self._folder / "flusher.log"

    def start(self) -> None:
        self._pid = self._supervisor.spawn(
            command("flush", "--entities", self._entities),
            folder=self._folder,
            log=self.log_path,
            environment=self._environment,
        )

    def kill(self) -> None:
        """`kill -9`: it gets to finish nothing, commit nothing and tell nobody."""
        if self._pid is not None:
            self._supervisor.signal(self._pid, signal.SIGKILL, tree=True)
            self.kills += 1
            self._pid = None

    def stop(self) -> None:
        """Ask it to finish in order, and wait until it has; one that does not manage is killed, uncounted."""
        if self._pid is None:
            return
        self._supervisor.signal(self._pid, signal.SIGTERM, tree=False)
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while self._supervisor.exit_code(self._pid) is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        self._supervisor.signal(self._pid, signal.SIGKILL, tree=True)
        self._pid = None

    def check(self) -> None:
        """Raises EmbeddedError with the end of its log when it ended by itself."""
        if self._pid is None:
            return
        code = self._supervisor.exit_code(self._pid)
        if code is not None:
            raise EmbeddedError("it ended by itself", server="flusher", exit_code=code, log=self.log_tail())

    def log_tail(self) -> str:
        lines = self.log_path.read_text(errors="replace").splitlines() if self.log_path.exists() else []
        return "\n".join(lines[-_LOG_LINES:])

"""What the three servers have in common: one child process that can be stopped, killed, frozen and started again."""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from writebehind.embedded.errors import EmbeddedError
from writebehind.embedded.ports import ReservedPort
from writebehind.embedded.supervisor import Supervisor

_POLL_S: Final = 0.02
_LOG_TAIL_BYTES: Final = 65536


@dataclass(frozen=True)
class Launch:
    """How to start a server's process: its command, working folder, and OS user (uid, gid) if not our own."""

    command: list[str]
    folder: Path
    user: tuple[int, int] | None = None


class Server(ABC):
    """One server on a loopback port that stays the same, and stays reserved, for the life of this object.

    `folder` holds its data and its log, and is created when missing. Not for use by two threads at once.
    """

    name: ClassVar[str]
    #: The signal that asks for an orderly shutdown without waiting for clients to leave.
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    start_timeout_s: ClassVar[float] = 60.0
    stop_timeout_s: ClassVar[float] = 20.0

    def __init__(self, supervisor: Supervisor, folder: Path) -> None:
        self._supervisor = supervisor
        self._folder = folder
        self._reserved = ReservedPort()
        self._pid: int | None = None
        self._prepared = False

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1."""
        return self._reserved.number

    @property
    def pid(self) -> int | None:
        """The process id of the server, None while it does not run."""
        if self._pid is not None and self._supervisor.exit_code(self._pid) is not None:
            self._pid = None
        return self._pid

    @property
    def running(self) -> bool:
        """Whether the process exists; a paused server is running too."""
        return self.pid is not None

    @property
    def log_path(self) -> Path:
        """The file that collects what the server prints, appended to over restarts."""
        return self._folder / f"{self.name}.log"

    def start(self) -> None:
        """Start the server, on its port and data, and wait until it serves; nothing happens when it runs.

        Raises EmbeddedError with the last log lines when it ends or does not serve within `start_timeout_s`.
        """
        if self.running:
            return
        if not self._prepared:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._prepare()
            self._prepared = True
        launch = self._launch()
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        self._pid = self._supervisor.spawn(
            launch.command,
            folder=launch.folder,
            log=self.log_path,
            environment=environment,
            user=launch.user,
        )
        try:
            self.wait_ready(self.start_timeout_s)
        except EmbeddedError:
            self.kill()
            raise

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Wait until the server answers a request of its own protocol. Raises EmbeddedError after `timeout_s`."""
        # Not _running_pid(): a server that has ended already is told with its exit code.
        pid = self._pid if self._pid is not None else self._running_pid()
        deadline = time.monotonic() + timeout_s
        while not self._serves():
            code = self._supervisor.exit_code(pid)
            if code is not None:
                raise self._failure("it ended before it was ready", code)
            if time.monotonic() > deadline:
                raise self._failure(f"it did not answer within {timeout_s:g} s", None)
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Shut down in order, as an administrator would; a server that does not manage within its time is killed."""
        pid = self.pid
        if pid is None:
            return
        self._supervisor.signal(pid, self.stop_signal, tree=False)
        # A frozen server acts on the signal only once it runs again.
        self._supervisor.signal(pid, signal.SIGCONT, tree=True)
        deadline = time.monotonic() + self.stop_timeout_s
        while self.running and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        self.kill()

    def kill(self) -> None:
        """`kill -9` of the server and all its children; returns when they are gone. No error when it does not run."""
        if (pid := self.pid) is not None:
            self._supervisor.signal(pid, signal.SIGKILL, tree=True)
            self._pid = None

    def pause(self) -> None:
        """Freeze the server and all its children (SIGSTOP): connections stay open, nothing answers."""
        self._supervisor.signal(self._running_pid(), signal.SIGSTOP, tree=True)

    def resume(self) -> None:
        """Let a paused server go on (SIGCONT)."""
        self._supervisor.signal(self._running_pid(), signal.SIGCONT, tree=True)

    def restart(self) -> None:
        """Stop in order, then start on the same port and data."""
        self.stop()
        self.start()

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the server's log, empty when it has not logged."""
        try:
            with self.log_path.open("rb") as file:
                file.seek(max(0, self.log_path.stat().st_size - _LOG_TAIL_BYTES))
                text = file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def release(self) -> None:
        """Give the port back, once the supervisor has ended and the server with it."""
        self._pid = None
        self._reserved.release()

    @abstractmethod
    def _prepare(self) -> None:
        """Install the program and lay out the data in the folder; called once, before the first start."""

    @abstractmethod
    def _launch(self) -> Launch:
        """What to start."""

    @abstractmethod
    def _serves(self) -> bool:
        """Whether the server answers a request right now; bounded to a few seconds."""

    def _running_pid(self) -> int:
        pid = self.pid
        if pid is None:
            raise EmbeddedError("it is not running", server=self.name, advice="call start() first")
        return pid

    def _failure(self, problem: str, exit_code: int | None) -> EmbeddedError:
        return EmbeddedError(
            problem,
            server=self.name,
            exit_code=exit_code,
            log=self.log_tail(),
            advice=f"read {self.log_path}; check free memory, disk space, and the options given to this server",
        )

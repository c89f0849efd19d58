"""The flushers of a run, each behind proxies of its own; one that ends is started again, as Kubernetes would do."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.entities import MODULE
from tests.faults.proxy import Proxy
from tests.faults.wire import Postgres, Redis
from tests.faults.world import ROOT, World, led_through, process_environment
from writebehind.embedded.supervisor import Supervisor

REFUSED_TO_START: Final = 2
STOP_TIMEOUT_S: Final = 10.0  # what a flusher promises after SIGTERM, in every state
BEGIN_TIMEOUT_S: Final = 15.0
_BEGUN: Final = b"] flushing "
_POLL_S: Final = 0.05
_RESTART_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Exit:
    """A flusher that ended although nobody asked it to."""

    at: float
    slot: int
    code: int
    log: str


class Slot:
    """A place for a flusher: its proxies stay when it is replaced. `proxies` is empty for one that needs none.

    ports: where it comes to database and cache, when not to the proxies' own ports.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        env: Mapping[str, str],
        folder: Path,
        number: int,
        proxies: Mapping[str, Proxy],
        *,
        ports: Mapping[str, int] | None = None,
        entities: Sequence[str] = (MODULE,),
    ) -> None:
        self._supervisor = supervisor
        self._folder = folder
        self.number = number
        self.proxies = proxies
        self._entities = entities
        self._env = led_through(env, ports or {name: proxy.port for name, proxy in proxies.items()})
        self._lock = threading.RLock()
        self._pid: int | None = None
        self._wanted = False
        self._ended_at = 0.0
        self._said_before = 0  # bytes of the log when the process was started

    @property
    def log_path(self) -> Path:
        return self._folder / f"flusher-{self.number}.log"

    @property
    def begun(self) -> bool:
        """Whether the process has checked everything and joins its group."""
        with self.log_path.open("rb") as log:
            log.seek(self._said_before)
            return _BEGUN in log.read()

    def start(self) -> None:
        """Start the process, if none runs."""
        with self._lock:
            self._wanted = True
            if self._pid is not None and self._supervisor.exit_code(self._pid) is None:
                return
            self._said_before = self.log_path.stat().st_size if self.log_path.exists() else 0
            command = [sys.executable, "-m", "writebehind.flusher", "flush"]
            named = [part for entity in self._entities for part in ("--entities", entity)]
            self._pid = self._supervisor.spawn(
                [*command, *named], folder=ROOT, log=self.log_path, environment=process_environment(self._env)
            )

    def kill(self) -> None:
        """`kill -9`; it stays away until it is started again."""
        with self._lock:
            self._wanted = False
            if self._pid is not None:
                self._supervisor.signal(self._pid, signal.SIGKILL, tree=True)
                self._pid = None

    def signal(self, number: signal.Signals) -> None:
        with self._lock:
            if self._pid is not None:
                self._supervisor.signal(self._pid, number, tree=True)

    def stop(self) -> tuple[float, int | None]:
        """SIGTERM, and wait for the end: seconds and exit code, None when it had to be killed.

        A process that has just been started is let begin: until Python has come to our code, a signal's own effect
        ends it, which says nothing about us. One that ended while it began had met a server that was away, said so by
        its exit code 2, and leaves nothing to stop.
        """
        with self._lock:
            self._wanted = False
            pid = self._pid
        if pid is None:
            return 0.0, 0
        if not self.wait_begun(pid) and self._supervisor.exit_code(pid) == REFUSED_TO_START:
            self.kill()
            return 0.0, 0
        began = time.monotonic()
        self._supervisor.signal(pid, signal.SIGTERM, tree=False)
        while (code := self._supervisor.exit_code(pid)) is None and time.monotonic() < began + STOP_TIMEOUT_S:
            time.sleep(_POLL_S)
        took_s = time.monotonic() - began
        self.kill()
        return took_s, code

    def wait_begun(self, pid: int | None = None) -> bool:
        """Whether the process begins in time; one that waits for a server does not. Not waited for when `pid` ended."""
        deadline = time.monotonic() + BEGIN_TIMEOUT_S
        while not self.begun and time.monotonic() < deadline:
            if pid is not None and self._supervisor.exit_code(pid) is not None:
                break
            time.sleep(_POLL_S)
        return self.begun

    def revive(self) -> Exit | None:
        """Start it again when it ended by itself a moment ago; tells of such an end once."""
        with self._lock:
            if not self._wanted:
                return None
            now = time.monotonic()
            if self._pid is None:
                if now > self._ended_at + _RESTART_S:
                    self.start()
                return None
            code = self._supervisor.exit_code(self._pid)
            if code is None:
                return None
            self._pid, self._ended_at = None, now
            lines = self.log_path.read_text(errors="replace").splitlines()
            return Exit(now, self.number, code, "\n".join(lines[-12:]))


class Fleet:
    """Two flushers behind proxies, and a third one that comes and goes."""

    def __init__(self, slots: list[Slot], extra: Slot) -> None:
        self.slots = slots
        self.extra = extra
        self.exits: list[Exit] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="fleet", daemon=True)

    def start(self) -> None:
        for slot in self.slots:
            slot.start()
        self._thread.start()

    def stop(self) -> list[tuple[float, int | None]]:
        """Stop all in order; seconds and exit code of each."""
        self._stopping.set()
        self._thread.join()
        return [slot.stop() for slot in [*self.slots, self.extra]]

    def _watch(self) -> None:
        while not self._stopping.wait(0.25):
            for slot in [*self.slots, self.extra]:
                if (found := slot.revive()) is not None:
                    self.exits.append(found)


@contextmanager
def fleet(supervisor: Supervisor, world: World, folder: Path, size: int = 2) -> Iterator[Fleet]:
    """Slots with their proxies; nothing is started yet. The supervisor ends what was started."""
    with ExitStack() as stack:
        slots: list[Slot] = []
        for number in range(size):
            proxies = {
                "database": stack.enter_context(Proxy(world.database_port, Postgres)),
                "cache": stack.enter_context(Proxy(world.cache_port, Redis)),
            }
            ports = world.entrances({name: proxy.port for name, proxy in proxies.items()})
            slots.append(Slot(supervisor, world.flushers_env, folder, number, proxies, ports=ports))
        ports = world.entrances({"database": world.database_port, "cache": world.cache_port})
        made = Fleet(slots, Slot(supervisor, world.flushers_env, folder, size, {}, ports=ports))
        try:
            yield made
        finally:
            for slot in [*made.slots, made.extra]:
                slot.kill()

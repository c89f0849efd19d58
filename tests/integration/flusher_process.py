"""`writebehind flush` as a process of its own, which tests start, freeze, kill and question by its log."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from tests.zygote import Popen, run

ROOT: Final = Path(__file__).parents[2]
TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 10.0  # what a flusher promises after SIGTERM, in every state
_POLL_S: Final = 0.02


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = TIMEOUT_S) -> None:
    """Wait until something is so. Fails with `what` after a generous time."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for: {what}"
        pause.wait(_POLL_S)


def run_command(env: Mapping[str, str], *arguments: str, code: int = 0) -> str:
    """Run `writebehind …` to its end and give its output, or what it said of a failure (code 2).

    Fails when it ends with another code.
    """
    command = [sys.executable, "-m", "writebehind.flusher", *arguments]
    done = run(command, env=_environment(env), cwd=ROOT, timeout=TIMEOUT_S)
    assert done.returncode == code, f"{arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stderr if code == 2 else done.stdout


class Flusher:
    """One `writebehind flush`. `entities` are import paths; its output is in `log_path`."""

    def __init__(
        self, env: Mapping[str, str], entities: Sequence[str], log_path: Path, arguments: Sequence[str] = ()
    ) -> None:
        named = [part for entity in entities for part in ("--entities", entity)]
        command = [sys.executable, "-m", "writebehind.flusher", "flush", *named, *arguments]
        self.log_path = log_path
        self.expected_alive = True
        with log_path.open("wb") as log:
            # A session of its own, so that workers can be ended with their parent at the end of the test.
            self._process: Popen[bytes] = Popen(
                command, env=_environment(env), cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )
        self.pid = self._process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait_log(self, text: str, *, count: int = 1) -> None:
        """Wait until the log holds a text, `count` times."""

        def said() -> bool:
            self.check()
            return self.log.count(text) >= count

        wait_until(said, f"{text!r} in the log of flusher {self.pid}:\n{self.log}")

    def wait_ready(self) -> Self:
        """Wait until it has checked everything and joins its group."""
        self.wait_log("] flushing ")
        return self

    @property
    def health_port(self) -> int:
        """Where it serves its health, as soon as it does."""
        self.wait_log("health and metrics at ")
        found = re.search(r"health and metrics at http://127\.0\.0\.1:(\d+) \[", self.log)
        assert found is not None
        return int(found[1])

    def ask(self, path: str) -> tuple[int, str]:
        """Status and body of a path of its health server."""
        connection = http.client.HTTPConnection("127.0.0.1", self.health_port, timeout=TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def check(self) -> None:
        """Fail when it has ended without being asked to."""
        if self.expected_alive:
            assert self._process.poll() is None, f"the flusher ended with {self._process.returncode}:\n{self.log}"

    def kill(self) -> None:
        """`kill -9`, and wait until it is gone."""
        self.expected_alive = False
        self._process.kill()
        self._process.wait(TIMEOUT_S)

    def freeze(self) -> None:
        """SIGSTOP, and wait until no thread of it runs."""
        self._process.send_signal(signal.SIGSTOP)
        wait_until(lambda: self._state() == "T", "the flusher to be frozen")

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM."""
        self.expected_alive = False
        self._process.terminate()

    def exit_code(self, timeout_s: float = TIMEOUT_S) -> int:
        """Wait for its end. Fails when that takes longer."""
        self.expected_alive = False
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the flusher still runs after {timeout_s:g} s:\n{self.log}") from None

    def stop(self) -> float:
        """SIGTERM; it must exit with 0 within what it promises. Gives the seconds it took."""
        began = time.monotonic()
        self.terminate()
        code = self.exit_code(STOP_TIMEOUT_S)
        assert code == 0, f"the flusher ended with {code}:\n{self.log}"
        return time.monotonic() - began

    def close(self) -> None:
        """End it and whatever it started, in any state."""
        self.expected_alive = False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(TIMEOUT_S)

    def _state(self) -> str:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WRITEBEHIND_")}
    return {**kept, **env}

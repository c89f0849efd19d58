"""The owner's end of the reaper process: typed requests over a socket, safe to call from several threads."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from writebehind.embedded.errors import EmbeddedError

_ANSWER_TIMEOUT_S: Final = 15.0
_FINISH_TIMEOUT_S: Final = 15.0


class Supervisor:
    """Starts processes that are certain to end with this one, whatever ends it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._channel, theirs = socket.socketpair()
        self._channel.settimeout(_ANSWER_TIMEOUT_S)
        with theirs:
            script = Path(__file__).with_name("reaper.py")
            self._process = subprocess.Popen(
                # Isolated and without site-packages: it starts in 30 ms and imports nothing of ours.
                [sys.executable, "-I", "-S", str(script), str(theirs.fileno()), str(self._owner)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
            )
        self._answers = self._channel.makefile("r", encoding="utf-8")

    def spawn(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        log: Path,
        environment: Mapping[str, str],
        user: tuple[int, int] | None = None,
    ) -> int:
        """Start a process in `folder`, output appended to `log`, as OS user (uid, gid) if given; returns its pid."""
        answer = self._ask(
            do="spawn",
            command=list(command),
            folder=str(folder),
            log=str(log),
            environment=dict(environment),
            user=user,
        )
        return int(answer["pid"])

    def signal(self, pid: int, number: int, *, tree: bool) -> None:
        """Signal a process that spawn() returned, with all its descendants if `tree`; no error when it has ended.

        SIGKILL with `tree` returns once all of them are gone.
        """
        self._ask(do="signal", pid=pid, signal=int(number), tree=tree)

    def exit_code(self, pid: int) -> int | None:
        """None while the process runs; negative for the signal that killed it."""
        code = self._ask(do="poll", pid=pid)["exit_code"]
        return None if code is None else int(code)

    def lock(self, file: Path) -> bool:
        """Hold the file for as long as any of our processes may run; False when another supervisor holds it."""
        return bool(self._ask(do="lock", file=str(file))["locked"])

    def remove_at_end(self, folder: Path) -> None:
        """Have the folder deleted once everything is killed."""
        self._ask(do="temporary", folder=str(folder))

    @property
    def ours(self) -> bool:
        """Whether this process made the supervisor; False in a process that was forked later."""
        return os.getpid() == self._owner

    def close(self) -> None:
        """Kill what still runs, delete the temporary folders, end the reaper. Nothing happens in a forked child."""
        if not self.ours:
            return
        # A forked child may hold a copy of the socket: only a shutdown is seen at the other end in that case.
        # It fails when the reaper is gone, or when this is the second call.
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        self._answers.close()
        self._channel.close()
        try:
            self._process.wait(_FINISH_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.terminate()

    def _ask(self, **request: Any) -> dict[str, Any]:
        if not self.ours:
            raise EmbeddedError(
                "this process is a fork of the one that started the servers",
                advice="control the servers from the process that started them",
            )
        try:
            with self._lock:
                self._channel.sendall(json.dumps(request).encode() + b"\n")
                line = self._answers.readline()
        except (OSError, ValueError) as error:
            raise EmbeddedError(f"the process that owns the servers does not answer: {error}") from error
        if not line:
            raise EmbeddedError(
                "the process that owns the servers is gone, and the servers with it",
                advice="start a new stack; if nobody killed it, look for the kernel's out-of-memory killer in dmesg",
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EmbeddedError(f"cannot {request['do']}: {answer['error']}")
        return answer

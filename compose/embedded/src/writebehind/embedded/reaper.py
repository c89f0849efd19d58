"""The process that owns the servers: it starts them on request and kills every one when its owner is gone.

Run as a script by supervisor.py, one per stack, with the standard library alone. A process of its own because it
must outlive a `kill -9` of the owner; the servers' parent because only a parent (here also a "subreaper", to which
orphans are handed) can be sure to know all descendants: PostgreSQL's children each lead a session of their own, so
killing a process group would miss them. Single-threaded, so that the death signal set below is sound: Linux sends
it when the *thread* that forked exits.

Protocol: one JSON object a line each way over the socket given as descriptor; end of file means "finish".
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_IPC_RMID = 0
_TICK_S = 0.5
_KILL_TIMEOUT_S = 10.0

_libc = ctypes.CDLL(None, use_errno=True)


class Reaper:
    """The servers of one stack, by pid, and the folders to remove at the end."""

    def __init__(self) -> None:
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._exited: dict[int, int] = {}
        self._temporary: list[str] = []
        self._locks: list[int] = []

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request; a failure is answered as `{"error": text}`."""
        try:
            match request["do"]:
                case "spawn":
                    return {"pid": self._spawn(request)}
                case "signal":
                    self._signal(request["pid"], request["signal"], tree=request["tree"])
                    return {}
                case "poll":
                    self.reap()
                    return {"exit_code": self._exited.get(request["pid"])}
                case "temporary":
                    self._temporary.append(request["folder"])
                    return {}
                case "lock":
                    return {"locked": self._lock(request["file"])}
                case unknown:
                    return {"error": f"unknown request {unknown!r}"}
        except (OSError, subprocess.SubprocessError) as error:
            return {"error": f"{type(error).__name__}: {error}"}

    def reap(self) -> None:
        """Collect every child that ended, orphans handed to us included, so that no zombie stays."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            process = self._running.pop(pid, None)
            if process is not None:
                self._exited[pid] = os.waitstatus_to_exitcode(status)
                # Told, so that it does not wait for a process that was waited for here.
                process.returncode = self._exited[pid]

    def finish(self) -> None:
        """Kill all descendants, however often they fork meanwhile, then remove the temporary folders."""
        self._kill(lambda: descendants(os.getpid()))
        for folder in self._temporary:
            for lock_file in Path(folder).glob("**/postmaster.pid"):
                remove_shared_memory(lock_file)
            shutil.rmtree(folder, ignore_errors=True)

    def _spawn(self, request: dict[str, Any]) -> int:
        user: list[int] | None = request["user"]
        with Path(request["log"]).open("ab") as log:
            process = subprocess.Popen(
                request["command"],
                env=request["environment"],
                cwd=request["folder"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A session of its own: Ctrl-C in the terminal is for the owner, who then stops the servers in order.
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509  # this process has one thread
                user=None if user is None else user[0],
                group=None if user is None else user[1],
                extra_groups=None if user is None else [],
            )
        self._running[process.pid] = process
        return int(process.pid)

    def _lock(self, file: str) -> bool:
        """Take a lock that lasts as long as this process, and so longer than every server; False if it is taken."""
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._locks.append(descriptor)
        return True

    def _signal(self, pid: int, number: int, *, tree: bool) -> None:
        self.reap()
        if pid not in self._running:
            return
        if not tree:
            os.kill(pid, number)
        elif number == signal.SIGKILL:
            # Stopped first, so that it cannot fork between our look at its children and the kill.
            os.kill(pid, signal.SIGSTOP)
            family = [pid, *descendants(pid)]
            self._kill(lambda: [one for one in family if alive(one)])
        elif number == signal.SIGCONT:
            # Children first: a resumed parent must find them running.
            send([*reversed(descendants(pid)), pid], number)
        else:
            send([pid], number)
            family = [pid, *descendants(pid)]
            send(family[1:], number)
            if number == signal.SIGSTOP:
                _wait_until_stopped(family)

    def _kill(self, remaining: Callable[[], list[int]]) -> None:
        deadline = time.monotonic() + _KILL_TIMEOUT_S
        while (pids := remaining()) and time.monotonic() < deadline:
            send(pids, signal.SIGKILL)
            time.sleep(0.005)
            self.reap()


def _wait_until_stopped(pids: list[int]) -> None:
    """A stop reaches a process's threads one by one: until the last, a server may still answer."""
    deadline = time.monotonic() + _KILL_TIMEOUT_S
    while time.monotonic() < deadline and not all(_stopped(pid) for pid in pids):
        time.sleep(0.001)


def _stopped(pid: int) -> bool:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return all((thread / "stat").read_bytes().rpartition(b")")[2].split()[0] in b"TtZX" for thread in threads)
    except (OSError, IndexError):
        return True  # gone


def send(pids: list[int], number: int) -> None:
    """Signal each process that still exists."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def alive(pid: int) -> bool:
    """Whether the process exists, be it as a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def descendants(root: int) -> list[int]:
    """All processes below `root`, parents before children, as /proc shows them now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name in parentheses may hold anything, parentheses too: read what follows the last one.
                parent = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = list(children.get(root, []))
    for pid in found:
        found.extend(children.get(pid, []))
    return found


def die_with_parent() -> None:
    """Have the kernel kill this server should the reaper itself be killed; runs in the child, before the exec."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def remove_shared_memory(lock_file: Path) -> None:
    """Free the System V segment a killed PostgreSQL leaves behind; its id ends the seventh line of postmaster.pid."""
    try:
        _libc.shmctl(int(lock_file.read_text().splitlines()[6].split()[1]), _IPC_RMID, None)
    except (OSError, IndexError, ValueError):
        return


def serve(reaper: Reaper, channel: socket.socket, owner: int) -> None:
    """Answer requests until the owner closes the channel or dies.

    The owner's death is also seen from our parent's pid: a process that the owner forked may hold the channel open.
    """
    received = b""
    while True:
        ready, _, _ = select.select([channel], [], [], _TICK_S)
        reaper.reap()
        if os.getppid() != owner:
            return
        if not ready:
            continue
        data = channel.recv(65536)
        if not data:
            return
        received += data
        while b"\n" in received:
            line, _, received = received.partition(b"\n")
            channel.sendall(json.dumps(reaper.handle(json.loads(line))).encode() + b"\n")


def main() -> None:
    """Serve, and finish whatever ends the serving: end of file, a signal, an error."""
    channel, owner = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    # An owner that has blocked signals would pass that on, through us, to the servers.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    reaper = Reaper()
    try:
        serve(reaper, channel, owner)
    except ConnectionError:
        pass  # the owner died while we answered
    finally:
        reaper.finish()


if __name__ == "__main__":
    main()

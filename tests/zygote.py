"""Commands written in Python, each as a fork of a process that has their code already, the zygote.

A start of `python -m writebehind.flusher` from nothing takes 1.5 to 2.5 seconds of a core, and a run of the tests has
hundreds. `Popen` and `run` stand in for those of `subprocess`; the tests of the documentation start a zygote of their
own, with more modules. A command is a process as any other: it has the arguments, environment, folder and files that
it is given, a session of its own when asked, Python's usual signal handlers, and it ends as a Python program ends.

Of a start from nothing it lacks what the interpreter reads before the first import (PYTHON… variables, the seed of
`hash`), and `/proc/PID/cmdline` is the zygote's. Tests of the start itself use `subprocess`.

Per command there is a watcher between the zygote and it, which tells how it ended, and kills it when nobody waits for
that any more: the one who asked is gone, or the tests are, whose end of the zygote's standard input is then closed.
"""

from __future__ import annotations

import atexit
import functools
import inspect
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import connection
from pathlib import Path
from typing import Any, AnyStr, Final

WRITEBEHIND: Final = (
    "confluent_kafka.admin",
    "psycopg.types.json",
    "writebehind.embedded.cli",
    "writebehind.embedded.compare.command",
    "writebehind.embedded.demo.command",
    "writebehind.flusher.app",
    "writebehind.flusher.audit.command",
    "writebehind.flusher.check.command",
    "writebehind.flusher.cli",
    "writebehind.flusher.explain.command",
    "writebehind.flusher.grants.command",
    "writebehind.flusher.invalidate_command",
    "writebehind.flusher.letters.commands",
    "writebehind.flusher.migrate",
    "writebehind.flusher.progress",
    "writebehind.flusher.status",
)

##### Who asks


class Popen(subprocess.Popen[AnyStr]):
    """As `subprocess.Popen`, for commands that begin with `sys.executable` or `writebehind`."""

    def _execute_child(self, *given: Any) -> None:
        """Called by `subprocess` once it has made the pipes, in the place of a fork and an exec."""
        was = super()._execute_child  # type: ignore[misc]
        options = inspect.signature(was).bind(*given).arguments
        assert not any(options[name] for name in ("preexec_fn", "pass_fds", "shell")), "a fork cannot have this"
        pipes = [options[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")]
        files = [given if given != -1 else own for own, given in enumerate((pipes[0], pipes[3], pipes[5]))]
        asked = {
            "command": options["args"],
            "folder": str(options["cwd"] or Path.cwd()),
            "environment": dict(os.environ if options["env"] is None else options["env"]),
            "session": options["start_new_session"],
        }
        watcher = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        watcher.connect(_address())
        socket.send_fds(watcher, [json.dumps(asked).encode()], files)
        self.pid = int(watcher.recv(64))
        self._child_created = True
        self._watcher = watcher.detach()  # several threads may wait for it: closed when nobody can any more
        weakref.finalize(self, os.close, self._watcher)
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not connection.wait([self._watcher], timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        with self._waitpid_lock:  # type: ignore[attr-defined]
            if self.returncode is None:
                self.returncode = int(os.read(self._watcher, 64))
        return self.returncode


def run(command: Sequence[str], *, timeout: float, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, and give its output as text. Raises TimeoutExpired, and ends it."""
    with Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@contextmanager
def zygote(*modules: str) -> Iterator[str]:
    """A zygote that has these modules. Gives its address."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"{folder}/zygote"
        command = [sys.executable, __file__, address, *modules]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n", "the zygote did not start"
            yield address


def _address() -> str:
    with _starting:
        return _started()


@functools.cache
def _started() -> str:
    """One for all tests of a pytest process, from the first command to the end of the process."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(zygote(*WRITEBEHIND))


_starting = threading.Lock()

##### The zygote


def serve(address: str, modules: Sequence[str]) -> list[str]:
    """Fork for each request, until standard input ends. Returns in the forks that are to become a command: with it."""
    for module in modules:
        __import__(module)
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a module starts threads, which a fork would not have"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests and the commands
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while 0 not in connection.wait([0, listener]):
            asker, _ = listener.accept()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:  # watchers that have ended; their CPU time is counted as ours
                    pass
            with asker:
                if os.fork() == 0:
                    listener.close()
                    return watch(asker)
    sys.exit()


def watch(asker: socket.socket) -> list[str]:
    """Fork the command, and tell how it ended. Returns in the command."""
    message, files, _, _ = socket.recv_fds(asker, 1 << 20, 3)
    asked = json.loads(message)
    child = os.fork()
    if child == 0:
        return become(asker, asked, files)
    for file in files:
        os.close(file)
    with suppress(OSError):  # the asker is gone
        ended = os.pidfd_open(child)
        if ended not in connection.wait([ended, asker, 0]):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if "note" in asked:
            Path(asked["note"], str(child)).unlink(missing_ok=True)
        asker.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def become(asker: socket.socket, asked: dict[str, Any], files: list[int]) -> list[str]:
    """Give a fork what was asked for; its process id is told when it has all of it. Gives the command."""
    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    time.tzset()
    if asked.get("session"):
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "note" in asked:
        Path(asked["note"], str(os.getpid())).write_text(f"{asked['asker']}\n")
    asker.send(str(os.getpid()).encode())
    command: list[str] = asked["command"]
    return command


def end_as_python(command: list[str]) -> None:
    """Do what a command does, to its end. Does not return."""
    code: Any = 0
    try:
        execute(command)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            raise
        code = ended.code or 0
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with suppress(OSError):  # nobody reads it: the interpreter has a message and a code for that
        sys.stdout.flush()
        sys.stderr.flush()
        # It would go on to take every module apart: another third of a second in a fork, which copies all it touches.
        os._exit(code & 0xFF)
    sys.exit(code)


def execute(command: list[str]) -> None:
    """Run a command's program."""
    tool, *arguments = command
    if Path(tool).name == "writebehind":
        sys.argv = command
        runpy._run_module_as_main("writebehind.flusher", alter_argv=False)  # type: ignore[attr-defined]
    elif arguments[0] == "-m":
        sys.path.insert(0, str(Path.cwd()))
        sys.argv = ["-m", *arguments[2:]]
        runpy._run_module_as_main(arguments[1])  # type: ignore[attr-defined]  # what python -m does
    elif arguments[0] == "-c":
        sys.path.insert(0, "")
        sys.argv = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "-c", "exec"), {"__name__": "__main__"})  # noqa: S102  # what python -c is
    else:
        sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    sys.path.pop(0)
    end_as_python(serve(sys.argv[1], sys.argv[2:]))

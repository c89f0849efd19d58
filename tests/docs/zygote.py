"""Runs commands written in Python for the pages' shell blocks, each as a fork of a process that has their code already.

A page has tens of them, and a start from nothing takes a second of a core. `shim.py` stands in PATH under their names.
A command lives no longer than its shim; while it lives its process id is a file in the folder of processes, which
has the shim's.
When standard input ends, because the tests have or were killed, everything does.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import struct
import sys
import threading
from contextlib import suppress
from pathlib import Path

PRELOADED = (
    "celery.bin.celery",
    "django.core.management",
    "confluent_kafka.admin",
    "psycopg.types.json",
    "writebehind.producer",
    "writebehind.flusher.app",
    "writebehind.flusher.cli",
    "writebehind.flusher.audit.command",
    "writebehind.flusher.check.command",
    "writebehind.flusher.letters.commands",
    "writebehind.flusher.migrate",
    "writebehind.flusher.progress",
    "writebehind.flusher.status",
)


def main(address: str, processes: Path) -> None:
    """Serve until standard input ends."""
    threading.Thread(target=end_with_input, args=(processes,), daemon=True).start()
    for module in PRELOADED:
        __import__(module)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            os._exit(watch(connection, processes))
        connection.close()


def end_with_input(processes: Path) -> None:
    """End with the commands that still run."""
    while os.read(0, 1):  # not by sys.stdin, whose lock would be held in every fork
        pass
    for file in processes.iterdir():
        with suppress(ProcessLookupError):
            os.kill(int(file.name), signal.SIGKILL)
    os._exit(0)


def watch(connection: socket.socket, processes: Path) -> int:
    """Run one command, and tell its shim how it ended."""
    request, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    child = os.fork()
    if child == 0:
        connection.close()
        command(request, descriptors)
    file = processes / str(child)
    shim = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    file.write_text(f"{shim}\n")

    def end_with_shim() -> None:
        with suppress(OSError):
            if not connection.recv(1):
                os.kill(child, signal.SIGKILL)

    for descriptor in descriptors:
        os.close(descriptor)
    try:
        connection.send(str(child).encode())
        threading.Thread(target=end_with_shim, daemon=True).start()
        _, status = os.waitpid(child, 0)
        connection.send(str(os.waitstatus_to_exitcode(status) % 256).encode())
    except OSError:  # the shim is gone
        pass
    finally:
        file.unlink()
    return 0


def command(request: bytes, descriptors: list[int]) -> None:
    """Become the command. Does not return."""
    tool, arguments, folder, environment = json.loads(request)
    for place, descriptor in enumerate(descriptors):
        os.dup2(descriptor, place)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    code = 1
    try:
        run(tool, arguments)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException as error:  # noqa: BLE001  # shown as Python shows it
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        threading._shutdown()  # type: ignore[attr-defined]  # what the interpreter does before its end
        os._exit(code)


def run(tool: str, arguments: list[str]) -> None:
    """A command by name: `writebehind`, `python`, or one of `tools.py`."""
    sys.argv = [tool, *arguments]
    if tool == "writebehind":
        runpy.run_module("writebehind.flusher", run_name="__main__", alter_sys=False)
    elif tool != "python":
        sys.argv = ["tools.py", tool, *arguments]
        runpy.run_path(str(Path(__file__).with_name("tools.py")), run_name="__main__")
    elif arguments[0] == "-c":
        sys.path.insert(0, "")
        sys.argv = arguments[:1] + arguments[2:]
        exec(compile(arguments[1], "-c", "exec"), {"__name__": "__main__"})  # noqa: S102  # what python -c is
    elif arguments[0] == "-m":
        sys.path.insert(0, str(Path.cwd()))
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    sys.path.pop(0)
    main(sys.argv[1], Path(sys.argv[2]))

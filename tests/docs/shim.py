#!/usr/bin/env -S python3 -IS
"""Stands in PATH for a command: asks `tests/zygote.py` to run it with this process' files, folder and environment."""

import json
import os
import signal
import socket
import sys

connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
connection.connect(os.environ["DOCS_ZYGOTE"])
name, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]  # noqa: PTH119
tools = os.path.join(os.path.dirname(os.path.realpath(__file__)), "tools.py")  # noqa: PTH118, PTH120
asked = {
    "command": [name, *arguments] if name in ("python", "writebehind") else ["python", tools, name, *arguments],
    "folder": os.getcwd(),  # noqa: PTH109
    "environment": dict(os.environ),
    "note": os.environ["DOCS_PROCESSES"],
    "asker": os.getpid(),
}
socket.send_fds(connection, [json.dumps(asked).encode()], [0, 1, 2])
child = int(connection.recv(64))
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda received, _frame: os.kill(child, received))
sys.exit(int(connection.recv(64) or b"1") % 256)

#!/usr/bin/env -S python3 -IS
"""Stands in PATH for a command: asks the zygote to run it with this process' files, folder and environment."""

import json
import os
import signal
import socket
import sys

connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
connection.connect(os.environ["DOCS_ZYGOTE"])
request = json.dumps([os.path.basename(sys.argv[0]), sys.argv[1:], os.getcwd(), dict(os.environ)])  # noqa: PTH109, PTH119
socket.send_fds(connection, [request.encode()], [0, 1, 2])
child = int(connection.recv(64))
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda received, _frame: os.kill(child, received))
sys.exit(int(connection.recv(64) or b"1"))

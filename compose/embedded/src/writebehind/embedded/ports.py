"""Free loopback ports that stay ours while a server is down."""

from __future__ import annotations

import socket
from typing import Final

LOOPBACK: Final = "127.0.0.1"


class ReservedPort:
    """A free port held by a bound socket that never listens.

    Linux lets a server bind the same port beside it, because both set SO_REUSEADDR and this one does not listen;
    to everyone else who asks for a free port it is taken, also between a server's kill and its restart. The option
    is set after the bind, so that the kernel gives us a port nobody else holds.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.bind((LOOPBACK, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.number: int = self._socket.getsockname()[1]

    def release(self) -> None:
        """Give the port back."""
        self._socket.close()

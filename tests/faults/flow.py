"""What the proxy does to one direction of a connection."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import Final

CHUNK_BYTES: Final = 65536


class Flow:
    """What one direction does: pass bytes on `delay_s` late, at most `slice_bytes` at a time, or not at all."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.slice_bytes = CHUNK_BYTES
        self._open = threading.Event()
        self._open.set()

    def stall(self) -> None:
        """Pass nothing more; connections stay open."""
        self._open.clear()

    def flow(self) -> None:
        """Pass on, also what was held up."""
        self._open.set()

    def send(self, target: socket.socket, data: bytes) -> None:
        """Send under these conditions, which may change meanwhile; what is sent may not."""
        start = 0
        while start < len(data):
            self._open.wait()
            if self.delay_s:
                time.sleep(self.delay_s)
            end = start + self.slice_bytes
            target.sendall(data[start:end])
            start = end


def reset(connection: socket.socket) -> None:
    """Close it with a RST, as a host that knows nothing of it would."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD)  # wakes a thread that reads from it, and tells the peer nothing yet
    connection.close()

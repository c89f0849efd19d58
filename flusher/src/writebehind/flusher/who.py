"""Who did something: what owners, letters and changes made by hand are recorded under."""

from __future__ import annotations

import getpass
import os
import socket


def process() -> str:
    """This process, as host:pid."""
    return f"{socket.gethostname()}:{os.getpid()}"


def person() -> str:
    """Who runs this command, as user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"

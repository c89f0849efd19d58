"""Tells a process from the one it was forked from, without asking the kernel at each call."""

from __future__ import annotations

import os


class Process:
    """`number` differs from that of the process which this one was forked from."""

    number = os.getpid()


def _forked() -> None:
    Process.number = os.getpid()


os.register_at_fork(after_in_child=_forked)

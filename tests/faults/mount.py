"""A small file system that can be full at will: a tablespace of the busiest table lies on it (F10)."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.faults.world import World
from writebehind.embedded.postgres import unprivileged_user

TABLE: Final = "fault_units"
_ROOM: Final = "4g"
_SLACK: Final = 1 << 16  # bytes that may be written between looking and shrinking
_TRIES: Final = 100


class Mount:
    """A tmpfs. Full means that it is made as small as what it holds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def tablespace(self) -> Path:
        """A folder of the server's own on it."""
        folder = self._folder / "tablespace"
        folder.mkdir(mode=0o700)
        if (user := unprivileged_user()) is not None:
            os.chown(folder, *user)
        return folder

    def fill(self) -> None:
        """From now on no file can grow. The server writes on meanwhile, and less than what is used is refused."""
        for _ in range(_TRIES):
            if self._resize(str(shutil.disk_usage(self._folder).used + _SLACK)):
                return
        raise RuntimeError(f"{self._folder} could not be made as small as what it holds")

    def free(self) -> None:
        """There is room again."""
        if not self._resize(_ROOM):
            raise RuntimeError(f"{self._folder} could not be made larger again")

    def _resize(self, size: str) -> bool:
        command = ["mount", "-o", f"remount,size={size}", str(self._folder)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0


@contextmanager
def mounted() -> Iterator[Mount | None]:
    """A file system for a server that starts later and ends earlier; None where we may not mount one."""
    if os.geteuid() != 0:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="writebehind-faults-", dir="/tmp"))
    options = ["mount", "-t", "tmpfs", "-o", f"size={_ROOM},mode=711", "writebehind-faults", str(folder)]
    done = subprocess.run(options, check=False, capture_output=True)
    try:
        yield Mount(folder) if done.returncode == 0 else None
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)
        folder.rmdir()


def move_table(world: World, mount: Mount) -> None:
    """Put the busiest table on it."""
    folder = mount.tablespace()
    with world.connect() as connection:
        connection.execute(f"CREATE TABLESPACE small LOCATION '{folder}'".encode())
        connection.execute(f"ALTER TABLE {TABLE} SET TABLESPACE small".encode())

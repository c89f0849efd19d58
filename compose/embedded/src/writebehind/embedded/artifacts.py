"""The jars: where they are cached, how they get there, and that they are exactly the pinned ones.

Every start hashes every jar it uses (45 jars, 0.1 s), so a half-written or altered file is never run. Only a
missing or altered jar goes to the network, and only through the Maven client.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from writebehind.embedded.errors import EmbeddedError

JARS_SETTING: Final = "WRITEBEHIND_EMBEDDED__JARS"
_DOWNLOADS_AT_ONCE: Final = 8
_DOWNLOAD_TIMEOUT_S: Final = 60
_ATTEMPTS: Final = 2


@dataclass(frozen=True)
class Pin:
    """One jar: its Maven coordinate `group:name:version` and the SHA-256 of its bytes in hex."""

    coordinate: str
    sha256: str

    @property
    def filename(self) -> str:
        """The jar's name in the cache and in an air-gapped folder, for example `kafka_2.13-4.4.0.jar`."""
        _, name, version = self.coordinate.split(":")
        return f"{name}-{version}.jar"


def pins(group: str) -> list[Pin]:
    """The pinned jars of one server, `kafka` or `postgres`, in class path order."""
    text = files("writebehind.embedded").joinpath("pins.json").read_text("utf-8")
    return [Pin(coordinate, sha256) for coordinate, sha256 in json.loads(text)[group].items()]


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder all stacks of this user share: `$XDG_CACHE_HOME/writebehind/embedded`, created when missing."""
    base = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "writebehind" / "embedded"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedError(
            f"cannot create the cache folder {folder}: {error.strerror}",
            advice="set XDG_CACHE_HOME to a folder this user may write to",
        ) from error
    return folder


@contextmanager
def cache_lock(name: str) -> Iterator[None]:
    """Hold one server's part of the cache: two stacks that start at once must not install over each other."""
    with (cache_folder() / f".{name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cached_folder(name: str, fill: Callable[[Path], None]) -> Path:
    """A folder of the cache that `fill` makes once, given the path to create; not to be written to by the caller.

    Made again when a file in it is missing or of another size, as after a tidy-up or a full disk.
    """
    folder = cache_folder() / name
    listing = folder.with_name(f"{name}.files")
    with cache_lock(name):
        if listing.exists() and listing.read_text("utf-8") == _listing(folder):
            return folder
        listing.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        fill(folder)
        listing.write_text(_listing(folder), "utf-8")
    return folder


def _listing(folder: Path) -> str:
    """Path and size of every file below."""
    lines = (
        f"{Path(base, name).relative_to(folder)} {Path(base, name).lstat().st_size}\n"
        for base, _, names in os.walk(folder)
        for name in names
    )
    return "".join(sorted(lines))


def ensure_jars(group: str) -> list[Path]:
    """Paths of one server's jars, in class path order, each verified; fetches what is missing or altered.

    Raises EmbeddedError when a jar can be had neither from the folder named by WRITEBEHIND_EMBEDDED__JARS (which,
    when set, is the only source) nor from the package repository.
    """
    return ensure_pinned(group, pins(group))


def ensure_pinned(group: str, wanted: Sequence[Pin]) -> list[Path]:
    """The same for jars that are pinned elsewhere; `group` names their lock."""
    folder = cache_folder() / "jars"
    given = os.environ.get(JARS_SETTING)
    paths = [folder / pin.filename for pin in wanted]
    with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
        if all(pool.map(_matches, paths, wanted)):
            return paths
        folder.mkdir(exist_ok=True)
        with cache_lock(group):
            # Looked at again: whoever held the lock before may have fetched them.
            missing = [pin for pin, good in zip(wanted, pool.map(_matches, paths, wanted), strict=True) if not good]
            # A download that is given up may still write a file while its folder is removed.
            with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-", ignore_cleanup_errors=True) as workplace:
                fetches = [
                    pool.submit(_place, pin, folder, Path(given) if given else None, Path(workplace)) for pin in missing
                ]
                for fetch in fetches:
                    fetch.result()
    return paths


def _matches(path: Path, pin: Pin) -> bool:
    """Whether the file is there and is the pinned one."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == pin.sha256
    except FileNotFoundError:
        return False


def _place(pin: Pin, folder: Path, given: Path | None, workplace: Path) -> None:
    """Put one verified jar into the cache folder, in one atomic step."""
    source = _from_given(pin, given) if given else _downloaded(pin, workplace)
    copy = workplace / f"{pin.filename}.verified"
    shutil.copyfile(source, copy)
    copy.replace(folder / pin.filename)


def _from_given(pin: Pin, given: Path) -> Path:
    path = given / pin.filename
    if not _matches(path, pin):
        state = "does not match its pinned checksum" if path.exists() else "is missing"
        raise EmbeddedError(
            f"{path} {state}",
            advice=f"put the jar of {pin.coordinate} (SHA-256 {pin.sha256}) there, or unset {JARS_SETTING}",
        )
    return path


def _downloaded(pin: Pin, workplace: Path) -> Path:
    """Fetch one jar with the Maven client; a second attempt, because its client does not refuse a cut download."""
    # Imported here: the client is slow to import, and only a cold start needs it.
    from jgo.maven import MavenContext

    group, name, version = pin.coordinate.split(":")
    problem = "no attempt was made"
    for attempt in range(_ATTEMPTS):
        repository = workplace / f"{pin.filename}.{attempt}"
        context = MavenContext(repo_cache=repository, timeout=_DOWNLOAD_TIMEOUT_S)
        try:
            path = Path(context.project(group, name).at_version(version).artifact().resolve())
        except Exception as error:  # noqa: BLE001  # the client documents no error type of its own
            problem = f"{type(error).__name__}: {error}"
            continue
        if _matches(path, pin):
            return path
        problem = "what came does not match its pinned checksum"
    raise EmbeddedError(
        f"cannot fetch {pin.coordinate}: {problem}",
        advice=f"check the network, or set {JARS_SETTING} to a folder that holds {pin.filename}",
    )

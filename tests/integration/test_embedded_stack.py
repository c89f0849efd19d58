"""Whole stacks: side by side, over a restart, from the command line, as a normal user, and after a `kill -9`."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import IO, Any, cast

import psycopg
import pytest
import redis
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from writebehind.embedded import EmbeddedError, Stack
from writebehind.embedded.artifacts import JARS_SETTING, ensure_jars
from writebehind.embedded.cli import app
from writebehind.embedded.supervisor import Supervisor
from writebehind.embedded.valkey import Valkey

TIMEOUT_S = 60.0
SETTINGS = ("WRITEBEHIND_KAFKA__BOOTSTRAP_SERVERS", "WRITEBEHIND_DATABASE__URL", "WRITEBEHIND_CACHE__URL")

#: Starts a stack, freezes Kafka, forks a child that keeps all that a fork inherits, reports, and waits.
OWNER = """
import json, os, sys
from writebehind.embedded import Stack, reaper
stack = Stack().start()
stack.kafka.pause()
pids = reaper.descendants(os.getpid())
if os.fork() != 0:
    print(json.dumps({"pids": pids, "postgres": stack.postgres.pid, "log": str(stack.kafka.log_path)}), flush=True)
sys.stdin.read()
os._exit(0)
"""

#: Starts a stack as whoever runs it and reports whose process the database is.
VISITOR = """
import json, os
from writebehind.embedded import Stack
with Stack() as stack:
    print(json.dumps({"me": os.geteuid(), "postgres": os.stat(f"/proc/{stack.postgres.pid}").st_uid}))
"""


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {TIMEOUT_S} s for: {what}"
        time.sleep(0.05)


def gone(pid: int) -> bool:
    """Whether the process has ended; one that only waits to be collected by its parent has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def report(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The one line of JSON a script prints."""
    line = cast(IO[str], process.stdout).readline()
    assert line, f"no report, exit code {process.wait(TIMEOUT_S)}"
    return cast(dict[str, Any], json.loads(line))


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def as_normal_user(home: Path) -> list[str]:
    """What to put before a command so that a normal user runs it: nothing, unless we are root.

    The interpreter may lie in root's home: then the user is allowed to read, though not to write, everywhere.
    """
    if os.geteuid() != 0:
        return []
    nobody = pwd.getpwnam("nobody")
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    # The found place of the library, not of the interpreter's link: the link's target is what must be reached.
    places = [Path(sys.executable).resolve(), Path(os.__file__), *map(Path, filter(None, sys.path))]
    closed = any(not parent.stat().st_mode & 0o001 for place in places for parent in place.parents if parent.exists())
    reading = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"] if closed else []
    return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", *reading]


def test_nothing_is_left_when_the_owner_is_killed() -> None:
    with running(sys.executable, "-c", OWNER) as owner:
        facts = report(owner)
        assert len(facts["pids"]) > 4, "the reaper, three servers and the children of PostgreSQL"
        assert not any(gone(pid) for pid in facts["pids"])

        owner.kill()

        wait_until(lambda: all(map(gone, facts["pids"])), "the end of all processes")
        wait_until(lambda: not Path(facts["log"]).parents[2].exists(), "the end of the temporary folder")
    segments = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    assert facts["postgres"] not in [int(line.split()[4]) for line in segments]


def test_the_servers_die_with_the_reaper_too(tmp_path: Path) -> None:
    supervisor = Supervisor()
    valkey = Valkey(supervisor, tmp_path)
    try:
        valkey.start()
        pid = valkey.pid
        assert pid is not None
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

        os.kill(parent, signal.SIGKILL)

        wait_until(lambda: gone(pid), "the end of the server")
        with pytest.raises(EmbeddedError, match="owns the servers"):
            valkey.start()
    finally:
        supervisor.close()
        valkey.release()


def test_a_data_folder_outlives_its_stack_and_belongs_to_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Stack(tmp_path, fsync=False) as first:
        admin = AdminClient({"bootstrap.servers": first.kafka.bootstrap_servers})
        for created in admin.create_topics([NewTopic("kept", 3, 1)]).values():
            created.result(TIMEOUT_S)
        cluster = admin.list_topics(timeout=TIMEOUT_S).cluster_id
        with psycopg.connect(first.postgres.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS a")
        redis.Redis.from_url(first.valkey.url).set("kept", "1")
        monkeypatch.setattr("writebehind.embedded.stack._LOCK_TIMEOUT_S", 0.1)
        with pytest.raises(EmbeddedError, match="in use by another stack"):
            Stack(tmp_path).start()
        assert all(server.running for server in first.servers)
        # As after a crash of the machine: a process id that is somebody else's by now.
        first.postgres.kill()
        lock_file = tmp_path / "postgres" / "data" / "postmaster.pid"
        lock_file.write_text(lock_file.read_text().replace(lock_file.read_text().split()[0], str(os.getpid()), 1))

    with Stack(tmp_path, fsync=False) as second:
        metadata = AdminClient({"bootstrap.servers": second.kafka.bootstrap_servers}).list_topics(timeout=TIMEOUT_S)
        assert (metadata.cluster_id, len(metadata.topics["kept"].partitions)) == (cluster, 3)
        with psycopg.connect(second.postgres.url) as connection:
            assert connection.execute("SELECT a FROM kept").fetchall() == [(1,)]
        assert redis.Redis.from_url(second.valkey.url).get("kept") == b"1"
    assert tmp_path.exists()


def test_two_stacks_run_side_by_side_and_take_their_data_along() -> None:
    with ThreadPoolExecutor() as pool:
        stacks = list(pool.map(Stack.start, [Stack(fsync=False), Stack(fsync=False)]))
    one, two = stacks
    try:
        assert set(one.env().values()).isdisjoint(two.env().values())
        redis.Redis.from_url(one.valkey.url).set("a", "1")
        assert redis.Redis.from_url(two.valkey.url).get("a") is None
        pids = [server.pid for server in one.servers]
        folder = one.kafka.log_path.parent

        one.close()
        one.close()

        assert all(pid is not None and gone(pid) for pid in pids)
        assert not folder.exists()
        assert all(server.running for server in two.servers)
    finally:
        for stack in stacks:
            stack.close()


def test_a_normal_user_can_run_it_from_an_air_gapped_folder() -> None:
    # Not below pytest's folder, which only its owner may enter.
    home, jars = (Path(subprocess.check_output(["mktemp", "-d"], text=True).strip()) for _ in range(2))
    jars.chmod(0o755)
    try:
        for jar in [*ensure_jars("kafka"), *ensure_jars("postgres")]:
            shutil.copy(jar, jars)
        command = [*as_normal_user(home), sys.executable, "-c", VISITOR]
        environment = os.environ | {
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home),
            JARS_SETTING: str(jars),
            "TMPDIR": str(home),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        assert done.returncode == 0, done.stderr
        facts = json.loads(done.stdout)
        assert facts["me"] != 0
        assert facts["postgres"] == facts["me"]
        assert [path.name for path in home.iterdir()] == ["writebehind"], "the cache, and nothing else"
    finally:
        shutil.rmtree(home)
        shutil.rmtree(jars)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_prints_settings_and_stops_everything_at_a_signal(number: signal.Signals) -> None:
    with running(sys.executable, "-m", "writebehind.embedded", "up", "--json") as command:
        settings = report(command)
        assert tuple(settings) == SETTINGS
        with psycopg.connect(settings["WRITEBEHIND_DATABASE__URL"]) as connection:
            backend = connection.info.backend_pid

        command.send_signal(number)

        assert command.wait(TIMEOUT_S) == 0
        assert gone(backend)


def test_a_failed_start_names_server_exit_code_and_reason_and_leaves_nothing(tmp_path: Path) -> None:
    stack = Stack(tmp_path, postgres_options={"max_connections": "many"})

    with pytest.raises(EmbeddedError) as caught:
        stack.start()

    error = caught.value
    assert (error.server, error.exit_code) == ("postgres", 1)
    assert 'invalid value for parameter "max_connections": "many"' in str(error)
    assert str(tmp_path / "postgres" / "postgres.log") in error.advice
    assert stack.servers == ()


def test_the_command_is_offered_to_the_main_one() -> None:
    (entry,) = entry_points(group="writebehind.commands", name="stack")

    assert entry.load() is app

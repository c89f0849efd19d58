"""The `writebehind` command without servers: what it says, where, and with which exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
import typer

from writebehind.flusher import cli
from writebehind.flusher.report import Report
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings

SETTINGS = {
    "WRITEBEHIND_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "WRITEBEHIND_DATABASE__URL": "postgresql://u:s3cret@127.0.0.1:1/x",
    "WRITEBEHIND_CACHE__URL": "redis://:s3cret@127.0.0.1:1/0",
}
ENTITIES = """
from typing import Annotated
from writebehind.shared.entity import Entity, Key, Sum, WriteBehind

class Page(Entity, table="pages", strategy=WriteBehind()):
    id: Annotated[int, Key]
    views: Annotated[int, Sum]

class Visit(Entity, table="visits", strategy=WriteBehind()):
    id: Annotated[int, Key]
    note: str
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with entities, settings in the environment and nothing else."""
    for name in [name for name in os.environ if name.startswith("WRITEBEHIND_")]:
        monkeypatch.delenv(name)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "shop_entities.py").write_text(ENTITIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "shop_entities", raising=False)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process and give its exit code."""
    monkeypatch.setattr(sys, "argv", ["writebehind", *arguments])
    monkeypatch.setattr(cli, "entry_points", lambda group: [])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


class Flushed:
    """Stands for the flusher: keeps what it was called with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, code: int = 0) -> None:
        self.calls: list[tuple[Settings, Registry]] = []
        self._code = code
        module = ModuleType("writebehind.flusher.app")
        module.__dict__["run"] = self._run
        monkeypatch.setitem(sys.modules, "writebehind.flusher.app", module)

    def _run(self, settings: Settings, registry: Registry) -> int:
        self.calls.append((settings, registry))
        return self._code


def test_options_of_flush_outrank_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRITEBEHIND_FLUSHER__WORKERS", "2")
    monkeypatch.setenv("WRITEBEHIND_FLUSHER__BATCH_ROWS_MAX", "123")
    flushed = Flushed(monkeypatch)
    options = ["--entities", "shop_entities:Page", "--workers", "3", "--connections", "4", "--group", "mine"]
    assert run(monkeypatch, "flush", *options) == 0
    ((settings, registry),) = flushed.calls
    assert (settings.flusher.workers, settings.flusher.connections, settings.flusher.group) == (3, 4, "mine")
    assert settings.flusher.batch_rows_max == 123
    assert [declaration.name for declaration in registry] == ["page"]


def test_entities_may_come_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRITEBEHIND_ENTITIES", '["shop_entities"]')
    flushed = Flushed(monkeypatch)
    assert run(monkeypatch, "flush") == 0
    assert [declaration.name for declaration in flushed.calls[0][1]] == ["page", "visit"]


def test_the_flushers_exit_code_is_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    Flushed(monkeypatch, code=3)
    assert run(monkeypatch, "flush", "--entities", "shop_entities") == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["flush"], "--entities"),
        (["flush", "--entities", "no_such_module"], "no_such_module"),
        (["flush", "--entities", "json"], "declares no entity"),
        (["migrate", "--entities", "shop_entities:Nobody"], "declares no entity"),
    ],
)
def test_what_cannot_run_is_said_on_stderr_with_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run(monkeypatch, *arguments) == 2
    output = capsys.readouterr()
    assert output.err.startswith("error: ")
    assert said in output.err
    assert output.out == ""


def test_a_number_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = Flushed(monkeypatch)
    assert run(monkeypatch, "flush", "--entities", "shop_entities", "--workers", "0") == 2
    assert flushed.calls == []


def test_print_shows_the_statements_and_needs_no_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WRITEBEHIND_DATABASE__SCHEMA", "my books")
    assert run(monkeypatch, "migrate", "--entities", "shop_entities", "--print") == 0
    output = capsys.readouterr().out
    assert 'CREATE TABLE "my books".progress' in output
    assert 'ALTER TABLE "visits" ADD COLUMN IF NOT EXISTS "versions" bigint[];' in output
    assert '"pages"' not in output, "a sum needs no versions"


@pytest.mark.parametrize(
    ("problems", "code"), [([], 0), ([("pages has no column x", "ALTER TABLE pages ADD COLUMN x int")], 1)]
)
def test_migrate_ends_with_1_when_something_is_left_to_do(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    problems: list[tuple[str, str]],
    code: int,
) -> None:
    def migrated(settings: Settings, registry: Registry, *, tables: bool) -> Report:
        return Report(done=["created topic t"], problems=problems)

    monkeypatch.setattr("writebehind.flusher.migrate.migrate", migrated)
    assert run(monkeypatch, "migrate", "--entities", "shop_entities") == code
    plain = capsys.readouterr()
    assert plain.out == "created topic t\n"
    assert all(problem in plain.err and fix in plain.err for problem, fix in problems)
    assert run(monkeypatch, "migrate", "--entities", "shop_entities", "--json") == code
    assert json.loads(capsys.readouterr().out) == {
        "done": ["created topic t"],
        "problems": [{"problem": problem, "fix": fix} for problem, fix in problems],
    }


def test_other_packages_add_commands_and_groups_of_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    group = typer.Typer()

    @group.command()
    def up() -> None:
        print("stack is up")

    @group.command()
    def down() -> None:
        raise ConfigurationError("nothing to take down")

    def demo() -> None:
        print("demo ran")

    class Entry:
        def __init__(self, name: str, target: object) -> None:
            self.name = name
            self.load = lambda: target

    def entries(group: str) -> list[Entry]:
        assert group == "writebehind.commands"
        return [Entry("stack", group_app), Entry("demo", demo)]

    group_app = group
    fresh = typer.Typer()
    monkeypatch.setattr(cli, "app", fresh)
    monkeypatch.setattr(cli, "entry_points", entries)
    for arguments, code in ((["stack", "up"], 0), (["demo"], 0), (["stack", "down"], 2)):
        monkeypatch.setattr(sys, "argv", ["writebehind", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert (ended.value.code or 0) == code
    output = capsys.readouterr()
    assert output.out == "stack is up\ndemo ran\n"
    assert output.err == "error: nothing to take down\n"


def test_the_module_is_the_command(folder: Path) -> None:
    command = [sys.executable, "-m", "writebehind.flusher"]
    shown = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout.strip() == version("writebehind-flusher")
    environment = {**os.environ, "WRITEBEHIND_DATABASE__URL": "postgresql//u:s3cret@127.0.0.1/x"}
    for name in ("flush", "migrate", "status"):
        arguments = [*command, name, "--entities", "shop_entities"]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 2, done.stderr
        assert "error: " in done.stderr
        assert "s3cret" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr

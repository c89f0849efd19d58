"""What manifests and pages may name: commands, options, environment variables. The code itself is asked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
import opentelemetry.environment_variables as otel_api
import opentelemetry.sdk.environment_variables as otel_sdk
import typer.main
import yaml

from writebehind.flusher import cli
from writebehind.shared.settings_reference import SOURCES, variables

ROOT: Final = Path(__file__).parents[2]
OTEL: Final = frozenset(name for name in vars(otel_api) | vars(otel_sdk) if name.startswith("OTEL_"))
SETTINGS: Final = {variable.name: variable for variable in variables()}


def documents(path: Path) -> list[Any]:
    """The YAML documents of a file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def check_command(arguments: Sequence[str]) -> None:
    """Fail unless `writebehind ARGUMENTS` is a command of ours with options it knows."""
    command: Any = typer.main.get_command(cli.app)
    context = click.Context(command, info_name="writebehind")
    rest = list(arguments)
    while hasattr(command, "get_command"):
        assert rest, f"{arguments}: a group of commands, and no command"
        name = rest.pop(0)
        command = command.get_command(context, name)
        assert command is not None, f"{arguments}: there is no command {name}"
        context = click.Context(command, info_name=name, parent=context)
    command.make_parser(context).parse_args(rest)  # raises on an option or argument that it does not know


def check_environment(environment: Mapping[str, str]) -> None:
    """Fail unless each variable that could be ours or OpenTelemetry's is one."""
    for name in environment:
        known = name in SETTINGS or name in SOURCES or name in OTEL
        assert known or not name.startswith(("WRITEBEHIND_", "OTEL_")), f"nothing reads {name}"


def check_settings(environment: Mapping[str, str]) -> None:
    """Fail unless the settings load from these variables and nothing else."""
    code = "from writebehind.shared.settings import load_settings; load_settings()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=dict(environment),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr

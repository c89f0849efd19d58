"""The README's code is run; its lists of commands are checked against the commands and targets that there are."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from writebehind.flusher import cli

from .world import World

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SHELL = re.findall(r"(?:^    \S.*\n(?:^ {4,}\S.*\n)*)", README, re.MULTILINE)

# What the fragments take for granted: names, and rows that somebody made.
FRAGMENTS = {
    "class Billing": """
        import psycopg, os
        with psycopg.connect(os.environ["WRITEBEHIND_DATABASE__URL"]) as made:
            made.execute("CREATE TABLE users (id bigint PRIMARY KEY, status text, billing_version bigint)")
            made.execute("CREATE TABLE invoices (user_id bigint)")
    """,
    "@cached": """
        from pydantic import BaseModel
        class Leader(BaseModel):
            name: str
    """,
}


def test_the_ten_lines_do_what_they_say(world: World, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(BLOCKS[0])
    quick_start = next(block for block in SHELL if "python shop.py" in block)
    commands = textwrap.dedent(quick_start.partition("paste them here\n")[2])
    assert "writebehind flush --entities shop &" in commands
    code, printed = world.bash(commands)
    assert code == 0, printed
    said = re.search(r"print\(.*\)  # (id=42 .*)", BLOCKS[0])
    assert said is not None
    assert said[1] in printed
    assert "writebehind.player" in printed  # of `status`


@pytest.mark.parametrize("start", FRAGMENTS)
def test_a_fragment_runs_within_a_service(start: str, world: World, tmp_path: Path) -> None:
    (fragment,) = [block for block in BLOCKS if block.startswith(start)]
    body = textwrap.indent(textwrap.dedent(FRAGMENTS[start]) + fragment, " " * 8)
    script = "import asyncio\nfrom typing import Annotated\nfrom writebehind.producer import *\n\n"
    script += f"async def main():\n    async with AsyncClient.open() as client:\n{body}\n\nasyncio.run(main())\n"
    (tmp_path / "fragment.py").write_text(script)
    code, printed = world.bash("python fragment.py")
    assert code == 0, printed


def test_every_python_block_is_run() -> None:
    assert [block for block in BLOCKS[1:] if not block.startswith(tuple(FRAGMENTS))] == []


def _lines(program: str) -> Iterator[list[str]]:
    for block in SHELL:
        for line in block.replace("\\\n", " ").splitlines():
            command = line.partition("#")[0].partition("|")[0].partition("&")[0].strip()
            if command.startswith(f"{program} "):
                yield shlex.split(command)[1:]


def test_every_command_and_option_exists() -> None:
    if not any(info.name == "stack" for info in cli.app.registered_groups):
        cli.add_commands_of_others()
    root: Any = typer.main.get_command(cli.app)
    seen = 0
    for words in _lines("writebehind"):
        command, rest = root, list(words)
        while hasattr(command, "commands"):
            command = command.commands[rest.pop(0)]
        options = {name for parameter in command.params for name in parameter.opts}
        assert [word for word in rest if word.startswith("--") and word not in options] == [], words
        seen += 1
    assert seen > 15


def test_every_target_of_make_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words[0] for words in _lines("make")}
    assert named
    assert named <= targets

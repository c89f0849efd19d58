"""ARCHITECTURE.md's loss matrix: every row names the tests that show it, and they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What no test here can show: a lost disk under replication 1, and the one race that only the time to live ends.
UNSHOWN = {"broker loses its disk, replication 1", "the same, and the writer dies before it can"}


def rows() -> dict[str, list[str]]:
    """The last cell's tests, by the first cell, of every row under the heading."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    matrix = text.partition("## Loss matrix")[2].partition("\n## ")[0]
    cells = [line.strip("|").split("|") for line in matrix.splitlines() if line.startswith("| ")]
    return {row[0].strip(): re.findall(r"`(\w+::\w+)`", row[-1]) for row in cells if row[0].strip() != "crash"}


def existing_tests() -> set[str]:
    files = [path for folder in ("unit", "integration") for path in (ROOT / "tests" / folder).glob("test_*.py")]
    return {
        f"{path.stem}::{node.name}"
        for path in files
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_row_names_existing_tests() -> None:
    found = rows()
    assert len(found) > 30
    assert {name for name, tests in found.items() if not tests} == UNSHOWN
    named = {test for tests in found.values() for test in tests}
    assert named <= existing_tests()

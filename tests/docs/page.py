"""A page of the documentation, as what is to be done with its code blocks.

A `python` block with a title is a file, without one a script; `sh` is run by bash; a `text` block right after one
is what that prints. A comment on the line before a block, or alone, says more:

    <!-- not run: REASON -->    the block is an illustration, for that reason
    <!-- exit: 1 -->            the block's last command ends with this code
    <!-- given: shop -->        the page begins where the tutorial's service runs
    <!-- do: kill cache -->     something happens that no command of ours does: kill, start (cache, broker, database)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_COMMENT = re.compile(r"<!-- (not run|exit|given|do): (.+?) -->")
_FENCE = re.compile(r"(?P<indent> *)```(?P<language>\w+)?(?: title=\"(?P<title>[^\"]+)\")?\s*$")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing of a page. `output` is what a block prints, None when the page does not show it."""

    kind: Literal["file", "python", "sh", "text", "other", "given", "do"]
    text: str
    line: int
    title: str = ""
    not_run: str | None = None
    exit_code: int = 0
    output: str | None = None
    output_line: int = 0


def steps(path: Path) -> list[Step]:
    """The steps of a page, outputs with the blocks they are of."""
    found: list[Step] = []
    for step, gap in _raw(path.read_text().splitlines()):
        runs = found and found[-1].kind in ("python", "sh") and found[-1].output is None and not found[-1].not_run
        if step.kind == "text" and not step.not_run and runs and not gap:
            last = found.pop()
            step = Step(  # noqa: PLW2901
                last.kind, last.text, last.line, last.title, None, last.exit_code, step.text, step.line
            )
        found.append(step)
    return found


def _raw(lines: list[str]) -> Iterator[tuple[Step, bool]]:
    """Each step, and whether words are between it and the one before."""
    at, said, words = 0, dict[str, str](), False
    while at < len(lines):
        line, at = lines[at], at + 1
        if comment := _COMMENT.fullmatch(line.strip()):
            kind, value = comment.groups()
            if kind in ("given", "do"):
                yield Step("given" if kind == "given" else "do", value, at), words
                words = False
            else:
                said[kind] = value
        elif fence := _FENCE.fullmatch(line):
            began, block = at, list[str]()
            while lines[at].strip() != "```":
                block.append(lines[at].removeprefix(fence["indent"]))
                at += 1
            at += 1
            kind = fence["language"] or "other"
            if kind == "python" and fence["title"]:
                kind = "file"
            known = kind if kind in ("file", "python", "sh", "text") else "other"
            step = Step(
                known,  # type: ignore[arg-type]
                "\n".join(block) + "\n",
                began,
                fence["title"] or "",
                said.get("not run"),
                int(said.get("exit", "0")),
            )
            yield step, words
            said, words = {}, False
        elif line.strip():
            words = True

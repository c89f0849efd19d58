"""Every code block of every page and of the README is run, on real servers, or says why not.

`DOCS_WRITE=1` puts what the blocks print into the pages, in the place of the outputs that they show.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .page import steps
from .world import DOCS, World

PAGES = sorted(DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", [p for p in PAGES if steps(p)], ids=lambda p: str(p.relative_to(DOCS)))
def test_a_page_shows_what_happens(page: Path, world: World) -> None:
    printed = world.run(page)
    if os.environ.get("DOCS_WRITE"):
        _write(page, printed)


def _write(page: Path, printed: dict[int, str]) -> None:
    lines, at, made = page.read_text().split("\n"), 0, list[str]()
    while at < len(lines):
        made.append(lines[at])
        at += 1
        if at not in printed:
            continue
        end = next(i for i in range(at, len(lines)) if lines[i].strip() == "```")
        if "..." not in "".join(lines[at:end]):
            indent = lines[end].partition("`")[0]
            made += [(indent + line).rstrip() for line in printed[at].rstrip("\n").split("\n")]
            at = end
    page.write_text("\n".join(made))

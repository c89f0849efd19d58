"""A page as text for a terminal, or as Markdown for a design review."""

from __future__ import annotations

import io
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .document import Block, Grid, Heading, Lines

WIDTH = 130  # of a pipe, which has none of its own


def text(blocks: Iterable[Block], console: Console) -> None:
    """Print for people."""
    for block in blocks:
        match block:
            case Heading(level=level, text=title):
                console.print(Text(f"\n{title}", style="bold underline" if level == 1 else "bold"))
            case Lines(lines=lines):
                first, *rest = lines
                console.print(Text(f"\n{first}"))
                for line in rest:
                    console.print(Text(f"    {line}"))
            case Grid():
                console.print(_table(block))


def _table(grid: Grid) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in grid.head:
        table.add_column(name, overflow="fold")
    for row in grid.rows:
        table.add_row(*map(Text, row))
    return table


def markdown(blocks: Iterable[Block]) -> str:
    """The page in Markdown."""
    page = io.StringIO()
    for block in blocks:
        match block:
            case Heading(level=level, text=title):
                page.write(f"{'#' * (level + 1)} {_escaped(title)}\n\n")
            case Lines(lines=lines):
                page.write("".join(f"- {_escaped(line)}\n" for line in lines) + "\n")
            case Grid(head=head, rows=rows):
                for cells in (head, ["---"] * len(head), *rows):
                    page.write(f"| {' | '.join(map(_escaped, cells))} |\n")
                page.write("\n")
    return page.getvalue()


def _escaped(cell: str) -> str:
    """A name of a table or column must not end a cell or become markup."""
    return "".join(f"\\{c}" if c in r"\|`*_<>[]" else c for c in cell)

"""What the reference is written with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; empty when it has no rows."""
    lines = [" | ".join(cell.strip().replace("|", "\\|").replace("\n", " ") for cell in row) for row in rows]
    return "\n".join([" | ".join(head), " | ".join("---" for _ in head), *lines]) if lines else ""


def plain(text: str) -> str:
    """A text that is no HTML."""
    return text.replace("<", "&lt;")

"""`letters export` and `letters import`, once their options are read. Each gives its exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from writebehind.shared.errors import ConfigurationError
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings

from . import render
from .filters import Filters
from .scan import Scan, scan
from .transfer import Imported, Importer, export_letters


def export(settings: Settings, registry: Registry, filters: Filters, *, output: Path | None) -> int:
    """Write letters to a file that only its owner can read, or to standard output."""
    with ExitStack() as stack:
        bar = stack.enter_context(render.Bar())
        found = stack.enter_context(scan(settings, registry, filters, bar))  # first: a typing error costs no old export
        out: BinaryIO = sys.stdout.buffer
        if output is not None:
            private = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # rows' values are in it
            out = stack.enter_context(os.fdopen(private, "wb"))
        written, lost = export_letters(found.items(bar), out)
        note_foreign(found)
    print(f"{written} exported", file=sys.stderr)
    if lost:
        print(f"{lost} open letters have no message in their topic any more", file=sys.stderr)
    return 1 if lost else 0


def import_(settings: Settings, registry: Registry, file: Path, *, as_json: bool) -> int:
    """Put letters of an export back into their topics. 1: some were refused."""

    def tell(source: str, imported: Imported, reason: str | None) -> None:
        if imported is Imported.REFUSED and not as_json:
            print(f"refused: {source + ': ' if source else ''}{reason}", file=sys.stderr)
        elif as_json:
            render.print_json({"line": source, "outcome": str(imported), "reason": reason})

    with (
        render.Bar() as bar,
        opened(file) as lines,
        scan(settings, registry, Filters(void=True), bar) as found,
    ):
        importer = Importer(settings, found, tell)
        bar.start("importing", file.stat().st_size)
        importer.run(lines, file.name, bar)
    counts = {str(kind): importer.counts[kind] for kind in Imported}
    if as_json:
        render.print_json({"summary": counts})
    else:
        print(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    return 1 if importer.counts[Imported.REFUSED] else 0


def note_foreign(found: Scan) -> None:
    """Say that somebody else writes to our dead-letter topics."""
    for name, count in found.source.foreign.items():
        print(f"{name} has {count} messages that are not letters", file=sys.stderr)


@contextmanager
def opened(file: Path) -> Iterator[BinaryIO]:
    """A file for reading. Raises ConfigurationError."""
    try:
        handle = file.open("rb")
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from None
    with handle:
        yield handle

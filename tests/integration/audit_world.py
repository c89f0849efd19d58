"""What the audit's tests do to a flusher test's corner: run the commands, plant entries that have drifted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from tests.integration.flusher_process import ROOT, TIMEOUT_S
from tests.integration.flusher_world import World
from writebehind.shared.bookkeeping import FIELD
from writebehind.shared.entity import Entity

OLD, NEW = 1_700_000_000_000_001, 1_700_000_000_000_009


@dataclass
class Ran:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Its only line."""
        (line,) = self.out.splitlines()
        found: dict[str, Any] = json.loads(line)
        return found


def start(w: World, *arguments: str, **env: str) -> subprocess.Popen[str]:
    """Start `writebehind …` for the world's entities."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WRITEBEHIND_")}
    named = [part for cls in w.entities for part in ("--entities", f"{cls.__module__}:{cls.__name__}")]
    return subprocess.Popen(
        [sys.executable, "-m", "writebehind.flusher", *arguments, *named],
        env={**kept, **w.env, **env},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(w: World, *arguments: str, **env: str) -> Ran:
    """Run `writebehind …` to its end."""
    with start(w, *arguments, **env) as process:
        try:
            out, err = process.communicate(timeout=2 * TIMEOUT_S)
        finally:
            process.kill()
    assert "Traceback" not in err, err
    return Ran(process.returncode, out, err)


def plant(
    w: World,
    cls: type[Entity],
    key: Any,
    fields: dict[str, str],
    *,
    state: str = "c",
    version: int = OLD,
    generation: int = OLD,
    pending: int = 0,
    parts: str = "",
) -> None:
    """Put an entry into the cache, as a script would have left it."""
    name = w.entry(cls, key)
    w.cache.delete(name)
    header = f"{version} {generation}{state}{pending or ''}{parts}"
    w.cache.hset(name, FIELD, header)
    for field, text in fields.items():
        w.cache.hset(name, field, text)
    if not pending:
        w.cache.pexpire(name, 3_600_000)

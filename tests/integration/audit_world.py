"""What the audit's tests do to a flusher test's corner: run the commands, plant entries that have drifted."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.integration.flusher_entities import Counter
from tests.integration.flusher_process import ROOT, TIMEOUT_S
from tests.integration.flusher_producer import client
from tests.integration.flusher_world import World
from tests.integration.guarded import OPERATOR, settings_of
from tests.zygote import Popen
from writebehind.flusher.audit.options import Options
from writebehind.flusher.audit.run import Result, audit
from writebehind.flusher.audit.suspects import Patience
from writebehind.shared import bookkeeping
from writebehind.shared.bookkeeping import FIELD
from writebehind.shared.entity import Entity
from writebehind.shared.registry import Registry

LIVE_KEYS = 300  # written all the time; 50 more get records that no entry was made with
QUICK = Patience(confirm_s=1.0, delivery_s=5.0, wait_s=30.0)
OLD, NEW = 1_700_000_000_000_001, 1_700_000_000_000_009


def role_of(arguments: Sequence[str]) -> str:
    """Who runs a command: no role may repair."""
    return OPERATOR if "--apply" in arguments else "auditor"


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
    return _start(Popen, w, arguments, env)


def start_alone(w: World, *arguments: str) -> subprocess.Popen[str]:
    """The same as no fork, whose memory and CPU time can be measured."""
    return _start(subprocess.Popen, w, arguments, {})


def _start(
    popen: type[subprocess.Popen[str]], w: World, arguments: Sequence[str], env: Mapping[str, str]
) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WRITEBEHIND_")}
    named = [part for cls in w.entities for part in ("--entities", f"{cls.__module__}:{cls.__name__}")]
    return popen(
        [sys.executable, "-m", "writebehind.flusher", *arguments, *named],
        env={**kept, **w.env_of(role_of(arguments), **env)},
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


def audited(w: World, *names: str, patience: Patience = QUICK, **options: Any) -> Result:
    """One run in this process, as fast as it goes."""
    settings, registry = settings_of(w.env_of(OPERATOR if options.get("apply") else "auditor")), Registry(w.entities)
    entities = names or tuple(declaration.name for declaration in registry)
    given = Options(entities, keys_per_s=0, patience=patience, **options)
    with audit(settings, registry, given) as job:
        return job.run(lambda *_: None, resume=False)


def findings(w: World, run: int) -> dict[str, str]:
    """Verdicts by key, as they are recorded."""
    return dict(w.query("SELECT key, verdict FROM {}.audit_finding WHERE run = %s", run))


def lasting_entries(w: World) -> int:
    """How many keys of `live_writes` have an entry that lasts: one from before its row is dropped with its flush."""
    kept = [bookkeeping.of(w.hash(Counter, key)) for key in range(LIVE_KEYS)]
    return sum(entry.complete and entry.row_exists and not entry.tainted for entry in kept)


@dataclass
class Live:
    """How many writes were acknowledged so far."""

    writes: int = 0


@contextmanager
def live_writes(w: World, spread: Sequence[int] = ()) -> Iterator[Live]:
    """The producer library writes, as fast as it can, and records come that no entry was made with.

    spread: keys of which as many are written, at random.
    """
    stop, live = threading.Event(), Live()

    def write() -> None:
        chance = random.Random(1)
        with client(w) as c:
            for number in itertools.count():
                if stop.is_set():
                    return
                keys = range(number % 7, LIVE_KEYS, 7)
                more = chance.sample(spread, len(keys)) if spread else []
                patch = {"hits": 1, "high": number, "note": f"n{number}"}
                c.update_many(Counter, [(key, patch) for key in (*keys, *more)])
                w.put(Counter, LIVE_KEYS + number % 50, hits=1, note=f"n{number}")
                live.writes += len(keys) + len(more)

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        try:
            names = [w.entry(Counter, key) for key in range(LIVE_KEYS)]
            w.wait(lambda: writer.done() or w.cache.exists(*names) >= LIVE_KEYS // 2, "live writes to be under way")
            yield live
        finally:
            stop.set()
            writer.result(2 * TIMEOUT_S)

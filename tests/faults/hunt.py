"""`python -m tests.faults.hunt`: are bugs caught that are planted into services and audits, by the run's own checkers?

Two short runs are made, on servers of their own: writers of few rows, cut off from the cache for a while and killed in
the end, the last of them while it is cut off again; and an audit that meets a write at the worst moment. Each is made
once as the code is, and must be clean, and once with each bug, until a checker finds it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.faults import after
from tests.faults.audit_race import raced
from tests.faults.bugs import OF_AUDIT, OF_DIRECT
from tests.faults.checkers import Violation
from tests.faults.checkers_cache import Window
from tests.faults.crew import MORTAL, Crew, Member
from tests.faults.entities import FRESH
from tests.faults.fleet import Slot
from tests.faults.planting import Bug
from tests.faults.run import REPORTS
from tests.faults.world import World, world
from writebehind.embedded.supervisor import Supervisor

RATE: Final = 300.0
CREW: Final = tuple(Member(name, index, RATE) for name in MORTAL for index in (1, 2))
PLANTED: Final = len(OF_DIRECT) + len(OF_AUDIT)
ROUNDS_MAX: Final = 12  # most bugs are found in the first
CALM_S, AWAY_S, DOUBT_S, AFTERWARDS_S = 2.5, 2.0, 3.5, 2.0
TIMEOUT_S: Final = 90.0

Say = Callable[[str], None]


def hunt(say: Say, folder: Path) -> list[str]:
    """What is not as it must be: the names of bugs that escaped, and of what was found without any."""
    shutil.rmtree(folder, ignore_errors=True)
    amiss: list[str] = []
    with contextlib.closing(Supervisor()) as supervisor, world(folder) as servers:
        flusher = Slot(supervisor, servers.env, folder, 0, {})
        flusher.start()
        for bug in (None, *OF_DIRECT):
            amiss += _until_found(functools.partial(_written, supervisor, servers, folder / "round", bug), bug, say)
        flusher.kill()
        for bug in (None, *OF_AUDIT):
            amiss += _until_found(functools.partial(raced, servers, bug), bug, say)
    return amiss


def _until_found(run: Callable[[], list[Violation]], bug: Bug | None, say: Say) -> list[str]:
    """What is amiss: a bug that was not found, or a finding without a bug."""
    began = time.monotonic()
    found: list[Violation] = []
    for _ in range(1 if bug is None else ROUNDS_MAX):
        if found := run():
            break
    how = f"{found[0].fault} {found[0].workload} {found[0].key}: {found[0].what}" if found else "nothing found"
    say(f"{'as it is' if bug is None else bug.name:45} {time.monotonic() - began:5.1f} s  {how[:110]}")
    if bug is None:
        return [f"without any bug: {how}"] if found else []
    return [] if found else [bug.name]


def _written(supervisor: Supervisor, servers: World, folder: Path, bug: Bug | None) -> list[Violation]:
    """Writers of few rows; the cache is out of their reach for a while; and all are killed at the same time."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _clear(servers)
    crew = Crew(supervisor, servers, folder, bug="" if bug is None else bug.name)
    crew.start(CREW, seed=1, poison=0.0)
    _wait(lambda: all(path.exists() for path in crew.histories.values()))
    time.sleep(CALM_S)
    with _cache_away(servers) as away:
        time.sleep(AWAY_S)
    again = time.monotonic() + DOUBT_S
    time.sleep(DOUBT_S + AFTERWARDS_S)
    for _ in CREW[1:]:
        crew.kill(0)
    with _cache_away(servers) as away_again:
        time.sleep(AWAY_S)
        crew.kill(0)
    with contextlib.closing(servers.consumer()) as consumer:
        _wait(lambda: servers.invalidated(consumer).items() <= servers.ends(consumer).items())
    return _check(servers, crew, [Window(away, again), Window(away_again, math.inf)])


@contextlib.contextmanager
def _cache_away(servers: World) -> Iterator[float]:
    """The cache cannot be reached by services; gives when that began."""
    proxy = servers.producers["cache"]
    began = time.monotonic()
    proxy.refusing = True
    proxy.reset()
    yield began
    proxy.refusing = False


def _check(servers: World, crew: Crew, windows: list[Window]) -> list[Violation]:
    found = crew.told()
    state = after.gather(servers, after.compared_keys(found))
    return after.check_direct(found, state, windows)


def _clear(servers: World) -> None:
    with servers.connect() as connection:
        for statement in FRESH:
            connection.execute(statement.encode())
    with servers.cache() as cache:
        cache.flushall()


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the writers, or the flusher, do nothing")
        time.sleep(0.1)


def main() -> int:
    """Exit code 0: every planted bug was caught; 1: one escaped, or something was found without any."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.hunt", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    args = parser.parse_args()

    def say(text: str) -> None:
        if not args.json:
            print(text, flush=True)

    amiss = hunt(say, REPORTS / "hunt")
    print(json.dumps({"planted_bugs_caught": f"{PLANTED - len(amiss)}/{PLANTED}", "amiss": amiss}))
    return 1 if amiss else 0


if __name__ == "__main__":
    sys.exit(main())

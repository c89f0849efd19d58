"""`python -m tests.faults.simulation.planted`: is each wrongness caught, by which checker, and at which seed?"""

from __future__ import annotations
import __future__

import argparse
import contextlib
import importlib
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

from .bugs import BUGS, Bug
from .checkers import check
from .patches import Stage, installed
from .plan import make
from .run import carry_out

SEEDS_MAX = 4_000


@dataclass(frozen=True)
class Caught:
    """The first violation that a planted bug led to."""

    seed: int
    checker: str
    what: str


@contextlib.contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """The code with the bug's line in the place of the right one."""
    module = importlib.import_module(bug.module)
    owner: Any = module
    *classes, name = bug.function.split(".")
    for part in classes:
        owner = getattr(owner, part)
    source = textwrap.dedent(inspect.getsource(getattr(owner, name)))
    if source.count(bug.right) != 1:
        raise LookupError(f"{bug.name}: {bug.function} has the line {source.count(bug.right)} times: {bug.right}")
    code = compile(
        source.replace(bug.right, bug.wrong),
        bug.module,
        "exec",
        __future__.annotations.compiler_flag,
        dont_inherit=True,
    )
    made: dict[str, Any] = {}
    exec(code, module.__dict__, made)  # noqa: S102  # our own source, one line of it changed
    with mock.patch.object(owner, name, made[name]):
        yield


def hunt(stage: Stage, bug: Bug, seeds_max: int = SEEDS_MAX) -> Caught | None:
    """Run seeds until a checker finds the bug."""
    with planted(bug), installed(stage):
        for seed in range(seeds_max):
            for violation in check(carry_out(stage, make(seed))):
                return Caught(seed, violation.checker, violation.what)
    return None


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: every planted bug was caught; 1: one escaped."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.simulation.planted", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help="seeds after which a bug has escaped")
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    options = parser.parse_args(arguments)
    stage, caught = Stage(), 0
    for bug in BUGS:
        found = hunt(stage, bug, options.seeds)
        caught += found is not None
        if not options.json:
            how = f"seed {found.seed:5} {found.checker:10} {found.what[:90]}" if found else "ESCAPED"
            print(f"{bug.name:45} {how}", flush=True)
    print(json.dumps({"planted_bugs_caught": f"{caught}/{len(BUGS)}"}))
    return 0 if caught == len(BUGS) else 1


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.faults.simulation.planted`: is each wrongness caught, by which checker, and at which seed?"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass

from ..planting import Bug, planted
from .bugs import BUGS
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
    stage, escaped = Stage(), list[str]()
    for bug in BUGS:
        found = hunt(stage, bug, options.seeds)
        if found is None:
            escaped.append(bug.name)
        if not options.json:
            how = f"seed {found.seed:5} {found.checker:10} {found.what[:90]}" if found else "ESCAPED"
            print(f"{bug.name:45} {how}", flush=True)
    print(json.dumps({"planted_bugs_caught": f"{len(BUGS) - len(escaped)}/{len(BUGS)}", "amiss": escaped}))
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())

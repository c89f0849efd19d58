"""`python -m tests.faults.simulation --seeds N --start S`: many histories, checked; a failing one is made small."""

from __future__ import annotations

import argparse
import json
import sys
import time

from .checkers import check
from .history import History, Violation
from .patches import Stage, installed
from .plan import Plan, make
from .run import carry_out
from .shrink import shrunk


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: no promise was broken; 1: one was."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20_000, help="how many seeds")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--trace", action="store_true", help="print each step")
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    options = parser.parse_args(arguments)
    seeds = range(options.start, options.start + options.seeds) if options.seed is None else [options.seed]
    started, crashes, failing = time.monotonic(), 0, list[int]()
    points: set[tuple[str, str]] = set()
    stage = Stage()
    with installed(stage):
        for seed in seeds:
            plan = make(seed)
            history = carry_out(stage, plan, tracing=options.trace)
            crashes += history.crashes
            points |= history.fired
            violations = check(history)
            if options.trace:
                print(plan, *history.trace, sep="\n")
            if violations:
                failing.append(seed)
                if not options.json:
                    _tell(stage, plan, violations)
    line = {"seeds": len(seeds), "violations": len(failing), "crashes": crashes, "faults_at": len(points)}
    print(json.dumps({**line, "seconds": round(time.monotonic() - started, 1), "failing": failing[:20]}))
    return 1 if failing else 0


def _tell(stage: Stage, plan: Plan, violations: list[Violation]) -> None:
    """Print a failing seed, and the smallest plan that fails like it with its trace."""
    print(f"seed {plan.seed} breaks a promise:", *violations, sep="\n  ")
    smallest = shrunk(plan, lambda p: violations[0].checker in {v.checker for v in check(carry_out(stage, p))})
    history: History = carry_out(stage, smallest, tracing=True)
    print("the smallest that was found:", smallest, *history.trace, *check(history), "", sep="\n")


if __name__ == "__main__":
    sys.exit(main())

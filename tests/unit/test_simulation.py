"""The simulation: clean seeds are clean, planted bugs are caught, and a failing plan is made small."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults import bugs
from tests.faults.planting import Bug, planted
from tests.faults.simulation.__main__ import main
from tests.faults.simulation.bugs import BUGS
from tests.faults.simulation.checkers import check
from tests.faults.simulation.patches import Stage, installed
from tests.faults.simulation.plan import Plan, make
from tests.faults.simulation.planted import hunt
from tests.faults.simulation.run import carry_out
from tests.faults.simulation.shrink import shrunk

# Those that need an event that few seeds have are left to `python -m tests.faults.simulation.planted`.
QUICK_SEEDS = 500
RARE = {
    "undo drops a newer value",
    "heal forgets an undo",
    "any record ends a doubt",
}


def test_300_seeds_break_no_promise(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "300", "--json"]) == 0
    assert '"violations": 0' in capsys.readouterr().out


def test_the_same_plan_gives_the_same_history() -> None:
    stage = Stage()
    with installed(stage):
        first, second = (carry_out(stage, make(7), tracing=True) for _ in range(2))
    assert first.trace == second.trace
    assert first.rows == second.rows
    assert first.trace


def test_there_are_at_least_20_planted_bugs_of_which_most_change_what_ships() -> None:
    assert len(BUGS) >= 20
    assert sum(bug.module.startswith("writebehind.") for bug in BUGS) >= 20


@pytest.mark.parametrize("bug", [*BUGS, *bugs.BUGS.values()], ids=lambda bug: bug.name)
def test_a_planted_bug_changes_one_line_that_is_there(bug: Bug) -> None:
    with planted(bug):
        pass


@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug.name not in RARE], ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(bug: Bug) -> None:
    assert hunt(Stage(), bug, QUICK_SEEDS) is not None


def test_a_failing_plan_is_made_small() -> None:
    bug = next(bug for bug in BUGS if bug.name == "one bad record drops its batch")
    stage = Stage()

    def fails(plan: Plan) -> bool:
        return "coherent" in {violation.checker for violation in check(carry_out(stage, plan))}

    with planted(bug), installed(stage):
        plan = next(plan for plan in map(make, range(QUICK_SEEDS)) if fails(plan))
        small = shrunk(plan, fails)
        assert fails(small)
    assert len(small.ops) <= 4 < len(plan.ops)
    assert len(small.faults) <= 1  # an answer of the server's may be what makes a record bad
    assert replace(small, ops=(), faults=(), schedule=0) == replace(plan, ops=(), faults=(), schedule=0)

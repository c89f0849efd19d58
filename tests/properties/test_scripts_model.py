"""The cache scripts against their model, on a real Valkey: whatever happens between two steps, reads show the truth."""

from __future__ import annotations

import os
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.properties.scripts_machine import DeletingMachine, ScriptsMachine
from tests.properties.scripts_world import NAME, SCORE
from writebehind.embedded import Isolation

EXAMPLES = int(os.environ.get("SCRIPT_EXAMPLES", "120"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("machine", [ScriptsMachine, DeletingMachine])
def test_the_scripts_keep_what_they_promise_whatever_happens(
    writebehind_isolated: Isolation, machine: type[ScriptsMachine]
) -> None:
    give(machine, writebehind_isolated)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
    machine.client.flushdb()
    machine.client.close()


def test_sums_that_are_undone_around_a_pending_delete_show_no_row(writebehind_isolated: Isolation) -> None:
    """Histories that are found once in some thousands."""
    give(DeletingMachine, writebehind_isolated)
    for order in ([1, 1], [2, 1]):  # the write and the delete after it; the other way round
        machine = DeletingMachine()
        machine.start(exists=False)
        machine.delete()
        machine.write({NAME: "n0", SCORE: 5})
        machine.delete()
        for at in order:
            undo(machine, at)
    machine = DeletingMachine()
    machine.start(exists=False)
    machine.delete()
    machine.write({SCORE: 1})
    machine.delete()
    machine.write({NAME: "n0", SCORE: 0})
    undo(machine, 3)
    machine.client.close()


def give(machine: type[ScriptsMachine], isolated: Isolation) -> None:
    """A cache, of which FLUSHDB does not touch what other tests use."""
    machine.client = redis.Redis.from_url(isolated.cache_url.rpartition("/")[0] + "/9")
    machine.key = f"{isolated.cache_prefix}:{{item:1}}"


def undo(machine: ScriptsMachine, at: int) -> None:
    """Undo the record at this place of the log."""

    class Picks:
        def draw(self, _of: Any) -> Any:
            return machine.log[at]

    machine.undo(Picks())  # in the place of Hypothesis
    machine.reads_show_the_row_and_all_that_is_pending()

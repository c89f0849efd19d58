"""The cache scripts against their model, on a real Valkey: whatever happens between two steps, reads show the truth."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.properties.scripts_machine import DeletingMachine, ScriptsMachine
from tests.properties.scripts_world import BEST, NAME, SCORE
from writebehind.embedded import Isolation

EXAMPLES = int(os.environ.get("SCRIPT_EXAMPLES", "120"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [ScriptsMachine, DeletingMachine])
def test_the_scripts_keep_what_they_promise_whatever_happens(
    writebehind_isolated: Isolation, kind: type[ScriptsMachine]
) -> None:
    give(kind, writebehind_isolated)
    run_state_machine_as_test(
        kind,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
    kind.client.flushdb()
    kind.client.close()


@pytest.fixture
def machine(writebehind_isolated: Isolation) -> Iterator[DeletingMachine]:
    """One that is told its steps; `start` begins anew."""
    give(DeletingMachine, writebehind_isolated)
    yield DeletingMachine()
    DeletingMachine.client.close()


def test_sums_that_are_undone_around_a_pending_delete_show_no_row(machine: DeletingMachine) -> None:
    """Histories that are found once in some thousands."""
    for order in ([1, 1], [2, 1]):  # the write and the delete after it; the other way round
        machine.start(exists=False)
        machine.delete()
        machine.write({NAME: "n0", SCORE: 5})
        machine.delete()
        for at in order:
            undo(machine, at)
    machine.start(exists=False)
    machine.delete()
    machine.write({SCORE: 1})
    machine.delete()
    machine.write({NAME: "n0", SCORE: 0})
    undo(machine, 3)


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("patches", [[{NAME: "n0"}], [{NAME: "n0"}, {NAME: "n1"}], [{NAME: "n0", BEST: 60}]])
@pytest.mark.parametrize("after", [{SCORE: 1}, {BEST: 3}])
@pytest.mark.parametrize("flushed", [1, 2])
def test_what_a_delete_took_is_not_in_an_entry_that_is_healed(
    machine: DeletingMachine,
    exists: bool,
    patches: list[dict[int, Any]],
    after: dict[int, Any],
    flushed: int,
) -> None:
    """A delete that the entry does not know of, between writes that it does; no row behind it, or a new one."""
    machine.start(exists=exists)
    machine.lease()
    machine.fill_late()
    for patch in patches:
        machine.write(patch)
    machine.delete_without_cache()
    for _ in range(flushed):
        machine.write(after)
    machine.flush(Draws(len(patches) + flushed), heal=True)
    machine.reads_show_the_row_and_all_that_is_pending()
    found = machine.look()
    if found is None:
        assert BEST in after  # a candidate may be missed until it is flushed
    else:
        assert found.best in (None, after.get(BEST))
        assert found.score == after.get(SCORE, 0) * flushed


def test_a_row_that_was_loaded_while_its_delete_was_pending_leaves_no_candidate(machine: DeletingMachine) -> None:
    machine.start(exists=True)
    machine.delete_without_cache()
    machine.write({BEST: 3})
    machine.lease()
    machine.fill_late()
    assert machine.look().best == 50  # the row's; the delete is not known here
    machine.flush(Draws(1), heal=True)
    found = machine.look()
    assert found is None or found.best in (None, 3)


def test_an_entry_that_was_deleted_is_healed_once_the_delete_is_flushed(machine: DeletingMachine) -> None:
    machine.start(exists=True)
    machine.delete()
    machine.write_without_cache({NAME: "n1"})
    machine.write({SCORE: 1})
    machine.write({SCORE: 2})
    machine.flush(Draws(3), heal=True)  # the last write is pending
    found = machine.look()
    assert (found.name, found.score) == ("n1", 3)


def give(machine: type[ScriptsMachine], isolated: Isolation) -> None:
    """A cache, of which FLUSHDB does not touch what other tests use."""
    machine.client = redis.Redis.from_url(isolated.cache_url.rpartition("/")[0] + "/9")
    machine.key = f"{isolated.cache_prefix}:{{item:1}}"


class Draws:
    """In the place of Hypothesis: always this."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def draw(self, _of: Any) -> Any:
        return self._value


def undo(machine: ScriptsMachine, at: int) -> None:
    """Undo the record at this place of the log."""

    machine.undo(Draws(machine.log[at]))
    machine.reads_show_the_row_and_all_that_is_pending()

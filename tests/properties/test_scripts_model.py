"""The cache scripts against their model, on a real Valkey: whatever happens between two steps, reads show the truth."""

from __future__ import annotations

import os

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.properties.scripts_machine import DeletingMachine, ScriptsMachine
from writebehind.embedded import Isolation

EXAMPLES = int(os.environ.get("SCRIPT_EXAMPLES", "120"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("machine", [ScriptsMachine, DeletingMachine])
def test_the_scripts_keep_what_they_promise_whatever_happens(
    writebehind_isolated: Isolation, machine: type[ScriptsMachine]
) -> None:
    url = writebehind_isolated.cache_url.rpartition("/")[0] + "/9"  # FLUSHDB must not touch what other tests use
    client = redis.Redis.from_url(url)
    machine.client = client
    machine.key = f"{writebehind_isolated.cache_prefix}:{{item:1}}"
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
    client.flushdb()
    client.close()

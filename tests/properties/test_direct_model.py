"""Direct entities against their model, on a real Valkey and Postgres: whatever happens between two steps."""

from __future__ import annotations

import os

import psycopg
import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.properties.direct_machine import DDL, Aside, DirectMachine, Through, ThroughMachine
from writebehind.embedded import Isolation

EXAMPLES = int(os.environ.get("SCRIPT_EXAMPLES", "200"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("machine", [DirectMachine, ThroughMachine])
def test_what_is_served_is_the_row_whatever_happens(
    writebehind_isolated: Isolation, machine: type[DirectMachine]
) -> None:
    url = writebehind_isolated.cache_url.rpartition("/")[0] + "/8"  # FLUSHDB must not touch what other tests use
    with (
        redis.Redis.from_url(url) as client,
        psycopg.connect(writebehind_isolated.database_url, autocommit=True) as connection,
    ):
        for cls in (Aside, Through):
            connection.execute(DDL[cls].encode())
        machine.client, machine.connection = client, connection
        machine.prefix, machine.schema = writebehind_isolated.cache_prefix, writebehind_isolated.schema
        slow = [HealthCheck.too_slow]
        run_state_machine_as_test(
            machine,
            settings=settings(max_examples=EXAMPLES, stateful_step_count=40, deadline=None, suppress_health_check=slow),
        )
        client.flushdb()

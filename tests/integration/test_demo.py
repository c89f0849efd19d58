"""The demo from the command line, on the real stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis

from writebehind.embedded.demo import audit, steps
from writebehind.embedded.demo.entities import Aircraft, Route
from writebehind.embedded.errors import EmbeddedError
from writebehind.producer import Client

if TYPE_CHECKING:
    from writebehind.embedded import ExistingServers, Stack
    from writebehind.embedded.isolation import Isolation

LIMIT = 3000


def test_the_demo_is_exact_although_the_flusher_is_killed(writebehind_stack: Stack | ExistingServers) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "writebehind.flusher", "demo", "--limit", str(LIMIT), "--json"],
        env={**os.environ, **writebehind_stack.env()},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    outcome = json.loads(line)
    assert list(outcome) == [
        "exact",
        "departures",
        "writes",
        "rows",
        "differences",
        "flusher_kills",
        "acknowledged_per_s",
        "audit_drift",
    ]
    assert outcome["exact"] is True
    assert outcome["departures"] == LIMIT
    assert LIMIT < outcome["writes"] <= 2 * LIMIT  # a route and, where it is known, an aircraft
    assert outcome["differences"] == 0
    assert outcome["flusher_kills"] == 1
    assert outcome["rows"] > 0
    assert outcome["acknowledged_per_s"] > 0
    assert outcome["audit_drift"] == 0


def test_the_demos_audit_finds_drift_and_does_not_pass_over_nothing(
    writebehind_isolated: Isolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    corner = writebehind_isolated
    for name, value in corner.env.items():
        monkeypatch.setenv(name, value)
    steps.prepare(corner)
    with pytest.raises(EmbeddedError, match="compared nothing of route"):
        audit.audit()
    with psycopg.connect(corner.database_url, autocommit=True) as connection, Client.open() as client:
        connection.execute("INSERT INTO routes (origin, dest) VALUES ('EWR', 'BOS')")
        connection.execute("INSERT INTO aircraft (tailnum) VALUES ('N1'), ('N2')")
        client.get_many(Route, [("EWR", "BOS")])
        client.get_many(Aircraft, [("N1",), ("N2",)])
        connection.execute("UPDATE aircraft SET flights = 7 WHERE tailnum = 'N2'")
    with redis.Redis.from_url(corner.cache_url) as cache:
        cache.set(f"{corner.cache_prefix}:{{aircraft:N1}}", "junk")
    assert {(one.direction, one.entity): one.drift > 0 for one in audit.audit()} == {
        ("cache to rows", "route"): False,
        ("cache to rows", "aircraft"): True,
        ("rows to cache", "route"): False,
        ("rows to cache", "aircraft"): True,
    }

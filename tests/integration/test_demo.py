"""The demo from the command line, on the real stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from writebehind.embedded import ExistingServers, Stack

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
    ]
    assert outcome["exact"] is True
    assert outcome["departures"] == LIMIT
    assert LIMIT < outcome["writes"] <= 2 * LIMIT  # a route and, where it is known, an aircraft
    assert outcome["differences"] == 0
    assert outcome["flusher_kills"] == 1
    assert outcome["rows"] > 0
    assert outcome["acknowledged_per_s"] > 0

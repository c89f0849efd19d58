"""Servers for all tests of a run, and how Hypothesis runs here: no deadline on a machine that others use as well, and
in CI the same examples each time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

# Examples share a test's corner of the servers; each works on keys or tables of its own.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

if TYPE_CHECKING:
    from tests.integration.guarded import Guarded


@pytest.fixture(scope="session")
def writebehind_stack() -> Iterator[Guarded]:
    """In place of the plugin's: always our own, because no others have the roles of the integration tests."""
    from tests.integration.guarded import guarded  # unit tests need no clients of servers

    with guarded() as stack:
        yield stack

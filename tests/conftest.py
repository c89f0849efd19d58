"""How Hypothesis runs here: no deadline on a machine that others use as well, and in CI the same examples each time."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Examples share a test's corner of the servers; each works on keys or tables of its own.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

"""Pytest fixtures: real servers for a whole test run, and a corner of them for each test.

Pytest loads this at every start, so it imports nothing heavier than the standard library until a fixture is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from writebehind.embedded.isolation import ExistingServers, Isolation
    from writebehind.embedded.stack import Stack


@pytest.fixture(scope="session")
def writebehind_stack() -> Iterator[Stack | ExistingServers]:
    """Running servers, shared by the whole run: a `Stack`, or those the settings name if they name all three."""
    from writebehind.embedded.isolation import ExistingServers
    from writebehind.embedded.stack import Stack

    existing = ExistingServers.from_environment(os.environ)
    if existing is not None:
        yield existing
        return
    # A power cut ends the test run as well.
    with Stack(fsync=False) as stack:
        yield stack


@pytest.fixture
def writebehind_isolated(writebehind_stack: Stack | ExistingServers) -> Iterator[Isolation]:
    """A schema, topics, keys and a consumer group that only this test uses, removed after it."""
    from writebehind.embedded.isolation import isolated

    with isolated(writebehind_stack.env()) as corner:
        yield corner

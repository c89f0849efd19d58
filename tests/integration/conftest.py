"""Fixtures of the integration tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from writebehind.embedded import Stack


@pytest.fixture(scope="session")
def breakable_stack() -> Iterator[Stack]:
    """Servers that a test may stop, kill and freeze, as long as it leaves them running."""
    with Stack(fsync=False) as stack:
        yield stack

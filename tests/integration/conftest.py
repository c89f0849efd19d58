"""Fixtures of the integration tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.guarded import Corner, Guarded, guarded


@pytest.fixture(scope="session")
def breakable_stack() -> Iterator[Guarded]:
    """Servers that a test may stop, kill and freeze, as long as it leaves them running."""
    with guarded() as stack:
        yield stack


@pytest.fixture
def writebehind_isolated(writebehind_stack: Guarded) -> Iterator[Corner]:
    """A corner of the servers to which the product's parts come as their roles."""
    with writebehind_stack.corner() as corner:
        yield corner

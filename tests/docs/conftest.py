"""A page's world, for the tests here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from writebehind.embedded import Isolation, Stack

from .world import World, zygote


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    with zygote(tmp_path_factory.mktemp("zygote")) as found:
        yield found


@pytest.fixture
def world(
    writebehind_isolated: Isolation, writebehind_stack: Stack, tmp_path: Path, forks: tuple[str, Path]
) -> Iterator[World]:
    found = World(writebehind_isolated, writebehind_stack, tmp_path, *forks)
    try:
        yield found
    finally:
        found.close()

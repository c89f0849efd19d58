"""A page's world, for the tests here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.zygote import WRITEBEHIND, zygote
from writebehind.embedded import Isolation, Stack

from .world import World

MORE = ("celery.bin.celery", "django.core.management", "writebehind.producer")  # what pages run beside our commands


@pytest.fixture(scope="module")
def forks() -> Iterator[str]:
    with zygote(*WRITEBEHIND, *MORE) as address:
        yield address


@pytest.fixture
def world(writebehind_isolated: Isolation, writebehind_stack: Stack, tmp_path: Path, forks: str) -> Iterator[World]:
    found = World(writebehind_isolated, writebehind_stack, tmp_path, forks)
    try:
        yield found
    finally:
        found.close()

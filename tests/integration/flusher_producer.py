"""The producer library in a flusher test's corner."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.integration.flusher_entities import Counter
from tests.integration.flusher_world import World
from tests.integration.guarded import settings_of
from writebehind.producer import Client
from writebehind.shared import bookkeeping
from writebehind.shared.entity import Entity

PATIENT = {"timeout_s": 5.0, "connect_timeout_s": 5.0}  # a busy machine is not a cache that is down


@contextmanager
def client(w: World) -> Iterator[Client]:
    """A producer on the world's servers."""
    with Client.open(settings_of(w.env_of("producer"), cache=PATIENT)) as opened:
        yield opened


def pending(w: World, cls: type[Entity], keys: Iterable[Any]) -> list[int]:
    """Each entry's count of pending writes."""
    return [bookkeeping.of(w.hash(cls, key)).pending for key in keys]


def settled(w: World, cls: type[Entity], keys: Iterable[Any]) -> bool:
    """Whether no entry is pending, and those that are there expire."""
    keys = list(keys)
    if any(pending(w, cls, keys)):
        return False
    left = [w.cache.pttl(w.entry(cls, key)) for key in keys if w.cache.exists(w.entry(cls, key))]
    return all(0 < ttl <= 3_600_000 for ttl in left)


def shown(client: Client, key: int) -> Counter:
    """The counter as the client reads it."""
    found = client.get(Counter, key)
    assert found is not None
    return found

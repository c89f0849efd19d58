"""Which entries a flusher heals: those of which it is sure to be the only writer. On a real Valkey."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Annotated

import pytest
import redis

from writebehind.embedded.isolation import Isolation
from writebehind.flusher import settle
from writebehind.flusher.batch import Span
from writebehind.flusher.measures import Measures
from writebehind.flusher.rows import Found
from writebehind.flusher.settle import Committed, Settler, Term
from writebehind.shared import bookkeeping, naming
from writebehind.shared.declaration import declaration_of
from writebehind.shared.entity import Entity, Key, Sum, WriteBehind
from writebehind.shared.fold import Settlement
from writebehind.shared.settings import CacheSettings


class Tally(Entity, table="tally", strategy=WriteBehind()):
    id: Annotated[int, Key]
    hits: Annotated[int, Sum] = 0


DECLARATION = declaration_of(Tally)
OLD, NEW = 1_700_000_000_000_001, 1_700_000_000_000_009
EPOCH = 3


@contextmanager
def settler_of(
    corner: Isolation,
    header: str,
    find: Callable[[Collection[str]], Found],
    owned: Callable[[Collection[Term]], set[Term]] = set,
) -> Iterator[tuple[Settler, redis.Redis, str]]:
    """A settler, not started, with the cache and the entry of key 1, which holds two hits that are pending."""
    entry = naming.cache_key(corner.cache_prefix, "tally", "1")
    [short] = bookkeeping.short_names(["hits"])
    settings = CacheSettings.model_validate({"url": corner.cache_url, "prefix": corner.cache_prefix})
    settler = Settler(DECLARATION, settings, find, owned, {"hits": 1}, Measures())
    with redis.Redis.from_url(corner.cache_url, decode_responses=True) as cache:
        cache.hset(entry, mapping={"hits": "2", "#": f"{header} +{short}2"})
        yield settler, cache, entry
    settler._client.close()  # the thread that would is not started


@pytest.mark.parametrize(("claimed", "late", "hits"), [(False, False, "7"), (True, False, "2"), (False, True, "2")])
def test_an_entry_is_healed_by_the_owner_of_its_partition_only(
    writebehind_isolated: Isolation, monkeypatch: pytest.MonkeyPatch, claimed: bool, late: bool, hits: str
) -> None:
    def owned(places: Collection[Term]) -> set[Term]:
        return set() if claimed else set(places)

    def find(_texts: Collection[str]) -> Found:
        return Found({"1": (5, [OLD])}, {})

    if late:
        monkeypatch.setattr(settle, "HEAL_S", -1.0)
    # Two hits of this generation are pending; 5 of another one, which the entry knows nothing of, are in the row.
    with settler_of(writebehind_isolated, f"{NEW} {NEW}c1", find, owned) as (settler, cache, entry):
        settler._step(Committed([Span(0, EPOCH, 0, 1)], Settlement(["1"], [OLD], [1], [OLD], [[5]])))
        assert bookkeeping.of(cache.hgetall(entry)).tainted  # type: ignore[arg-type]  # the synchronous client
        settler.heal()

        assert cache.hget(entry, "hits") == hits


def test_an_entry_that_cannot_be_healed_is_in_doubt_of_what_the_database_has(writebehind_isolated: Isolation) -> None:
    """Its newest write is in the database, and one that came to the log after it is pending: nothing would end a doubt
    that waits for something newer."""

    def find(_texts: Collection[str]) -> Found:
        raise TimeoutError

    with settler_of(writebehind_isolated, f"{NEW} {NEW}C2", find) as (settler, cache, entry):
        settler._step(Committed([Span(0, EPOCH, 0, 1)], Settlement(["1"], [NEW], [1], [NEW], [[1]])))

        settler.heal()
        settler._step(None)

        assert not cache.exists(entry)  # reads show the row

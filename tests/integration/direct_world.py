"""What the tests of cache-aside and write-through store, and where."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Annotated, Any

from tests.integration.producer_world import World, world
from writebehind.embedded import Isolation
from writebehind.producer import AsyncClient, CacheAside, Entity, Key, Max, Min, Numeric, Sum, WriteThrough

MODULE = "tests.integration.direct_world"


class _Account(Entity, abstract=True):
    """One field of each merge, and types that travel as text."""

    id: Annotated[int, Key]
    name: str | None = None
    balance: Annotated[Decimal, Numeric(12, 2), Sum] = Decimal("0.00")
    best: Annotated[int | None, Max] = None
    first: Annotated[dt.datetime | None, Min] = None
    tags: list[str] | None = None
    extra: dict[str, Any] | None = None


class Aside(_Account, table="asides", strategy=CacheAside()):
    """No column of versions."""


class Through(_Account, table="throughs_direct", strategy=WriteThrough()):
    """With one."""


class Strict(_Account, table="stricts", strategy=WriteThrough(on_cache_down="fail")):
    """Does not write while the cache is down."""


class Page(Entity, table="pages", strategy=CacheAside(negative_ttl_s=60)):
    """A composite key of texts."""

    site: Annotated[str, Key]
    path: Annotated[str, Key]
    title: str


class Cold(Entity, table="colds", strategy=CacheAside()):
    """A view that counts how often it is read."""

    id: Annotated[int, Key]
    name: str


ENTITIES: tuple[type[Entity], ...] = (Aside, Through, Strict, Page)
_COLUMNS = (
    "id bigint PRIMARY KEY, name text, balance numeric(12,2) NOT NULL DEFAULT 0 CHECK (balance >= -100), best bigint, "
    "first timestamptz, tags text[], extra jsonb"
)
DDL = f"""
CREATE TABLE asides ({_COLUMNS});
CREATE TABLE throughs_direct ({_COLUMNS}, version bigint);
CREATE TABLE stricts ({_COLUMNS}, version bigint);
CREATE TABLE pages (site text, path text, title varchar(20) NOT NULL, PRIMARY KEY (site, path));
CREATE SEQUENCE selects;
CREATE TABLE cold_rows (id bigint PRIMARY KEY, name text);
CREATE VIEW colds AS SELECT * FROM cold_rows WHERE nextval('selects') > 0
"""
PATIENT = {"budget_s": 5.0, "load_wait_s": 10.0}  # a busy machine is not a sick cache


async def at_rest(client: AsyncClient) -> None:
    """Until the cache has what reads that have returned fill: another connection sees it only then."""
    await client._runtime.join(60.0)


@contextmanager
def direct_world(isolation: Isolation, **settings: dict[str, Any]) -> Iterator[World]:
    """Tables, bookkeeping and topics, and a cache that has time to answer."""
    groups = {**settings, "cache": {**PATIENT, **settings.get("cache", {})}}
    with world(isolation, ENTITIES, ddl=DDL, **groups) as made:
        yield made

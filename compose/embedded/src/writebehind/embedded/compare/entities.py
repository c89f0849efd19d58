"""What `compare` writes: the same row under each strategy. The flusher loads this module by its name."""

from __future__ import annotations

from typing import Annotated, Final

from writebehind.shared.entity import CacheAside, Entity, Key, Max, WriteBehind, WriteThrough


class _Row(Entity, abstract=True):
    """`stamp` only grows, so that a reader can tell whether it sees a write or something older."""

    id: Annotated[int, Key]
    body: str
    stamp: Annotated[int, Max]


class Aside(_Row, table="compare_aside", strategy=CacheAside()):
    """Written in the database, then forgotten by the cache."""


class Through(_Row, table="compare_through", strategy=WriteThrough()):
    """Written in database and cache."""


class Behind(_Row, table="compare_behind", strategy=WriteBehind()):
    """Written in cache and Kafka, and in the database a moment later."""


Row = Aside | Through | Behind
STRATEGIES: Final[dict[str, type[Row]]] = {"cache-aside": Aside, "write-through": Through, "write-behind": Behind}

_COLUMNS: Final = "id bigint PRIMARY KEY, body text NOT NULL, stamp bigint NOT NULL"
DDL: Final = f"""
CREATE TABLE compare_aside ({_COLUMNS}) WITH (fillfactor = 80);
CREATE TABLE compare_through ({_COLUMNS}, version bigint) WITH (fillfactor = 80);
CREATE TABLE compare_behind ({_COLUMNS}, versions bigint[]) WITH (fillfactor = 80);
"""

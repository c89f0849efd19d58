"""One table under three strategies, for `explain`."""

from __future__ import annotations

from typing import Annotated

from writebehind.shared.entity import CacheAside, Entity, Key, Sum, WriteBehind, WriteThrough


class Profile(Entity, table="users", strategy=CacheAside()):
    id: Annotated[int, Key]
    name: str
    bio: str | None = None


class Billing(Entity, table="users", strategy=WriteThrough(on_cache_down="fail")):
    id: Annotated[int, Key]
    status: str


class Visits(Entity, table="users", strategy=WriteBehind(ttl_s=60)):
    id: Annotated[int, Key]
    views: Annotated[int, Sum] = 0

"""What the flusher tests declare, and the tables that go with it."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from writebehind.shared.entity import Entity, Key, Max, Min, Numeric, Sum, WriteBehind

QUICK = 0.02  # flush delay, in seconds: batches come soon, and there are many of them


class Counter(Entity, table="counters", strategy=WriteBehind(flush_delay_s=QUICK)):
    """One field of each merge."""

    id: Annotated[int, Key]
    hits: Annotated[int, Sum] = 0
    high: Annotated[int | None, Max] = None
    low: Annotated[int | None, Min] = None
    note: str | None = None


class Town(Entity, table="towns", strategy=WriteBehind(flush_delay_s=QUICK)):
    """A composite key, and a sum of decimals."""

    country: Annotated[str, Key]
    name: Annotated[str, Key]
    paid: Annotated[Decimal, Sum, Numeric(20, 4)] = Decimal(0)
    mayor: str | None = None


class ProfileName(Entity, table="profiles", strategy=WriteBehind(flush_delay_s=QUICK, versions_column="name_versions")):
    """Half of a table."""

    id: Annotated[int, Key]
    name: str


class ProfileStats(
    Entity, table="profiles", strategy=WriteBehind(flush_delay_s=QUICK, versions_column="stats_versions")
):
    """The other half of it."""

    id: Annotated[int, Key]
    visits: Annotated[int, Sum] = 0
    city: str | None = None


class Item(Entity, table="items", strategy=WriteBehind(flush_delay_s=QUICK, deletes=True)):
    """Rows that come and go."""

    id: Annotated[int, Key]
    title: str | None = None
    stock: Annotated[int, Sum] = 0
    best: Annotated[int | None, Max] = None


class Known(Entity, table="known", strategy=WriteBehind(flush_delay_s=QUICK, on_missing="skip")):
    """Rows that somebody else inserts."""

    id: Annotated[int, Key]
    note: str


class Strict(Entity, table="strict", strategy=WriteBehind(flush_delay_s=QUICK)):
    """A table that refuses what its declaration allows."""

    id: Annotated[int, Key]
    amount: Annotated[int, Sum] = 0


class Sluggish(Entity, table="sluggish", strategy=WriteBehind(flush_delay_s=1.0)):
    """Records that wait for company, so that a test decides what shares a batch."""

    id: Annotated[int, Key]
    hits: Annotated[int, Sum] = 0


DDL: dict[type[Entity], str] = {
    Counter: "CREATE TABLE counters (id bigint PRIMARY KEY, hits bigint NOT NULL DEFAULT 0, high bigint, low bigint,"
    " note text DEFAULT 'none yet', versions bigint[])",
    Town: "CREATE TABLE towns (country text, name text, paid numeric(20, 4) NOT NULL DEFAULT 0, mayor text,"
    " versions bigint[], PRIMARY KEY (country, name))",
    ProfileName: "CREATE TABLE IF NOT EXISTS profiles (id bigint PRIMARY KEY, name text NOT NULL DEFAULT 'unnamed',"
    " visits bigint NOT NULL DEFAULT 0, city text, name_versions bigint[], stats_versions bigint[])",
    Item: "CREATE TABLE items (id bigint PRIMARY KEY, title text DEFAULT 'untitled', stock bigint NOT NULL DEFAULT 0,"
    " best bigint, versions bigint[])",
    Known: "CREATE TABLE known (id bigint PRIMARY KEY, note text NOT NULL, versions bigint[])",
    Strict: "CREATE TABLE strict (id bigint PRIMARY KEY, amount bigint NOT NULL CHECK (amount >= 0))",
    Sluggish: "CREATE TABLE sluggish (id bigint PRIMARY KEY, hits bigint NOT NULL DEFAULT 0)",
}
DDL[ProfileStats] = DDL[ProfileName]

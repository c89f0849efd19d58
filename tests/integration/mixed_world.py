"""One table under three strategies, and two more ways for a late write to meet a missing row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from tests.integration.direct_world import PATIENT
from tests.integration.producer_world import World, world
from writebehind.embedded import Isolation
from writebehind.producer import CacheAside, Entity, Key, Sum, WriteBehind, WriteThrough

MODULE = "tests.integration.mixed_world"
DELAY_S = 0.02
LONG_S = 600.0  # no test waits for it: what it would hide is seen because somebody was told
NEGATIVE_S = 0.2  # the stated limit: how long "there is no row" of a direct entity hides a row that a flusher made


class Profile(Entity, table="people", strategy=CacheAside(negative_ttl_s=NEGATIVE_S)):
    id: Annotated[int, Key]
    name: str = ""


class Billing(
    Entity, table="people", strategy=WriteThrough(version_column="billing_version", negative_ttl_s=NEGATIVE_S)
):
    id: Annotated[int, Key]
    status: str = "none"


class Visits(
    Entity,
    table="people",
    strategy=WriteBehind(flush_delay_s=DELAY_S, negative_ttl_s=LONG_S, versions_column="visit_versions"),
):
    id: Annotated[int, Key]
    views: Annotated[int, Sum] = 0
    page: str | None = None


class Badges(
    Entity,
    table="people",
    strategy=WriteBehind(
        flush_delay_s=DELAY_S, on_missing="dead_letter", on_broker_down="through", versions_column="badge_versions"
    ),
):
    id: Annotated[int, Key]
    stars: Annotated[int, Sum] = 0
    title: str | None = None


class Notes(
    Entity,
    table="people",
    strategy=WriteBehind(flush_delay_s=DELAY_S, on_missing="skip", versions_column="note_versions"),
):
    id: Annotated[int, Key]
    note: str | None = None


ENTITIES: tuple[type[Entity], ...] = (Profile, Billing, Visits, Badges, Notes)
DDL = """
CREATE TABLE people (
    id bigint PRIMARY KEY, name text NOT NULL DEFAULT '', status text NOT NULL DEFAULT 'none', billing_version bigint,
    views bigint NOT NULL DEFAULT 0, page text, visit_versions bigint[],
    stars bigint NOT NULL DEFAULT 0, title text, badge_versions bigint[], note text, note_versions bigint[]
)
"""


@contextmanager
def mixed_world(isolation: Isolation, **settings: dict[str, Any]) -> Iterator[World]:
    with world(isolation, ENTITIES, ddl=DDL, **{"cache": PATIENT, **settings}) as made:
        yield made

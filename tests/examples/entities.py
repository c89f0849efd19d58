"""What both example services store."""

from __future__ import annotations

from typing import Annotated

from writebehind.producer import Entity, Key, Max, Sum, WriteBehind


class Player(Entity, table="players", strategy=WriteBehind(flush_delay_s=0.05)):
    """A player: the name is replaced, points are added, the best round stays."""

    id: Annotated[int, Key]
    name: str | None = None
    points: Annotated[int, Sum] = 0
    best: Annotated[int | None, Max] = None


DDL = """
CREATE TABLE players (
    id bigint PRIMARY KEY, name text, points bigint NOT NULL DEFAULT 0, best bigint, versions bigint[]
)
"""

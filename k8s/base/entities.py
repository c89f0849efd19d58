"""What the flusher writes: put your own entities here."""

from __future__ import annotations

from typing import Annotated

from writebehind.producer import Entity, Key, Max, Sum, WriteBehind


class Player(Entity, table="players", strategy=WriteBehind()):
    """A player: the name is replaced, points are added, the best round stays."""

    id: Annotated[int, Key]
    name: str | None = None
    points: Annotated[int, Sum] = 0
    best: Annotated[int | None, Max] = None

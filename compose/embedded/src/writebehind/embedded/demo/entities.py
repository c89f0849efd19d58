"""What the demo keeps: one row per route and one per aircraft. The flusher loads this module by its name."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from writebehind.shared.entity import Entity, Key, Last, Max, Sum, WriteBehind


class Route(Entity, table="routes", strategy=WriteBehind(flush_delay_s=0.2)):
    """A route out of New York. Early departures count as negative minutes, cancelled ones have no delay."""

    origin: Annotated[str, Key]
    dest: Annotated[str, Key]
    flights: Annotated[int, Sum] = 0
    cancelled: Annotated[int, Sum] = 0
    delay_minutes: Annotated[int, Sum] = 0
    worst_delay: Annotated[int | None, Max] = None
    last_departure: Annotated[datetime | None, Last] = None


class Aircraft(Entity, table="aircraft", strategy=WriteBehind(flush_delay_s=0.2)):
    """An aircraft, by the number on its tail."""

    tailnum: Annotated[str, Key]
    flights: Annotated[int, Sum] = 0
    cancelled: Annotated[int, Sum] = 0
    delay_minutes: Annotated[int, Sum] = 0
    worst_delay: Annotated[int | None, Max] = None
    last_departure: Annotated[datetime | None, Last] = None
    last_destination: Annotated[str | None, Last] = None

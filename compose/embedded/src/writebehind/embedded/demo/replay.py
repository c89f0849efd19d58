"""Sending departures through the producer in the order in which they happened, one write per departure and entity."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from writebehind.embedded.demo.dataset import Departure
from writebehind.embedded.demo.entities import Aircraft, Route
from writebehind.shared.entity import Entity

if TYPE_CHECKING:
    from writebehind.producer import AsyncClient, AsyncReceipt

Write = tuple[Hashable, dict[str, Any]]  # key and patch

CHUNK_WRITES: Final = 1000
LANES: Final = 2  # per entity: chunks that are in flight at once
LANE_CHUNKS_MAX: Final = 2  # chunks that wait in a lane; then the replay waits


@dataclass(slots=True)
class Tally:
    """How far the replay is. `last` holds the newest receipt of every topic and partition."""

    departures: int = 0
    acknowledged: int = 0
    last: dict[tuple[str, int], AsyncReceipt] = field(default_factory=dict)

    def note(self, receipts: Sequence[AsyncReceipt]) -> None:
        self.acknowledged += len(receipts)
        for receipt in receipts:
            place = receipt.topic, receipt.partition
            known = self.last.get(place)
            if known is None or receipt.offset > known.offset:
                self.last[place] = receipt


def writes(departure: Departure) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The patches of a departure: its route's, and its aircraft's unless the tail number is not known."""
    delay = departure.delay_min
    if delay is None:
        # A patch holds what it changes and nothing else: a cancelled departure leaves the delays alone.
        patch: dict[str, Any] = {"flights": 1, "cancelled": 1}
        return patch, patch if departure.tailnum else None
    patch = {"flights": 1, "delay_minutes": delay, "worst_delay": delay, "last_departure": departure.at}
    return patch, {**patch, "last_destination": departure.dest} if departure.tailnum else None


class Lane:
    """Chunks of an entity's writes, one in flight at a time: writes of a key, which keep to one lane, stay in order."""

    def __init__(self, client: AsyncClient, entity: type[Entity], tally: Tally) -> None:
        self._client = client
        self._entity = entity
        self._tally = tally
        self._chunk: list[Write] = []
        self._waiting: asyncio.Queue[list[Write]] = asyncio.Queue(LANE_CHUNKS_MAX)

    async def add(self, key: Hashable, patch: dict[str, Any]) -> None:
        self._chunk.append((key, patch))
        if len(self._chunk) == CHUNK_WRITES:
            await self.hand_over()

    async def hand_over(self) -> None:
        """Send what there is, be it less than a chunk."""
        if self._chunk:
            chunk, self._chunk = self._chunk, []
            await self._waiting.put(chunk)

    async def finish(self) -> None:
        """Send what is left, then let `run` return."""
        await self.hand_over()
        await self._waiting.put([])

    async def run(self) -> None:
        while chunk := await self._waiting.get():
            self._tally.note(await self._client.update_many(self._entity, chunk))


class Lanes:
    """The lanes of one entity; a new key goes to the next lane in turn and stays there."""

    def __init__(self, client: AsyncClient, entity: type[Entity], tally: Tally) -> None:
        self.lanes = [Lane(client, entity, tally) for _ in range(LANES)]
        self._of_key: dict[Hashable, Lane] = {}

    async def add(self, key: Hashable, patch: dict[str, Any]) -> None:
        lane = self._of_key.get(key)
        if lane is None:
            lane = self._of_key[key] = self.lanes[len(self._of_key) % LANES]
        await lane.add(key, patch)


async def replay(
    client: AsyncClient, departures: Sequence[Departure], tally: Tally, *, half_way: Callable[[], Awaitable[None]]
) -> None:
    """Write all departures, acknowledged when this returns. `half_way` is awaited once, with writes in flight."""
    routes, aircraft = Lanes(client, Route, tally), Lanes(client, Aircraft, tally)
    lanes = [*routes.lanes, *aircraft.lanes]
    async with asyncio.TaskGroup() as running:
        for lane in lanes:
            running.create_task(lane.run())
        for number, departure in enumerate(departures):
            if number == len(departures) // 2:
                for lane in lanes:
                    await lane.hand_over()
                await half_way()
            of_route, of_aircraft = writes(departure)
            await routes.add((departure.origin, departure.dest), of_route)
            if of_aircraft is not None:
                await aircraft.add(departure.tailnum, of_aircraft)
            tally.departures = number + 1
        for lane in lanes:
            await lane.finish()

"""What every workload does its calls through: the public producer API, each call noted before and after."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence
from typing import Any, Final

from tests.faults.histories import Outcome, Values, Writer
from writebehind.producer import (
    AsyncClient,
    AsyncReceipt,
    DatabaseDown,
    Entity,
    InvalidWrite,
    NotApplied,
    PartlyFailed,
    Refused,
    Unknown,
)

CALL_TIMEOUT_S: Final = 5.0
_AFTER_FAILURE_S: Final = 0.2


class Driver:
    """A client, its history, and the signal to stop. `index` tells processes of one workload apart."""

    def __init__(
        self,
        client: AsyncClient,
        history: Writer,
        stopping: asyncio.Event,
        *,
        seed: int,
        index: int,
        rate: float,
        poison: float,
    ) -> None:
        self.client = client
        self.history = history
        self.random = random.Random(seed)
        self.index = index
        self.rate = rate
        self.poison = poison
        self.stopping = stopping
        self._values = index * 10**12

    def value(self) -> int:
        """A value that nobody writes twice."""
        self._values += 1
        return self._values

    async def pause(self, tasks: int = 1, weight: float = 1.0) -> bool:
        """Wait as long as keeps `tasks` such loops at the process's rate. False when it is time to stop."""
        wait_s = self.random.expovariate(1.0) * tasks * weight / self.rate
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), wait_s)
        return not self.stopping.is_set()

    async def update(
        self, kind: str, entity: type[Entity], key: int, patch: Values, *, noted: Values | None = None
    ) -> Outcome:
        """One update. `noted` goes into the history in the patch's place."""
        call = self.client.update(entity, key, timeout_s=CALL_TIMEOUT_S, **patch)
        return await self._one(kind, key, patch if noted is None else noted, call)

    async def add(self, kind: str, entity: type[Entity], key: int, deltas: Values, *, noted: Values) -> Outcome:
        """One increment."""
        return await self._one(kind, key, noted, self.client.add(entity, key, timeout_s=CALL_TIMEOUT_S, **deltas))

    async def create(self, kind: str, entity: type[Entity], key: int, fields: Values) -> Outcome:
        """A row of a direct entity. Refused when there is one, after an unknown outcome: as good as OK."""
        call = self.client.create(entity, key, timeout_s=CALL_TIMEOUT_S, **fields)
        return await self._one(kind, key, fields, call, may_be_refused=True)

    async def delete(self, entity: type[Entity], key: int) -> Outcome:
        """One delete."""
        return await self._one("delete", key, {}, self.client.delete(entity, key, timeout_s=CALL_TIMEOUT_S))

    async def update_many(self, kind: str, entity: type[Entity], writes: Sequence[tuple[int, Values]]) -> None:
        """Many updates in one call."""
        number = self.history.invoke(kind, writes)
        outcomes: list[tuple[Outcome, int | None]]
        try:
            receipts = await self.client.update_many(entity, writes, timeout_s=CALL_TIMEOUT_S)
            outcomes = [(Outcome.OK, receipt.version) for receipt in receipts]
        except PartlyFailed as error:
            outcomes = [_outcome(error.receipts.get(n), error.failures.get(n)) for n in range(len(writes))]
        except Exception as error:  # noqa: BLE001  # each is noted, and those outside the contract fail the run
            outcomes = [self._failed(error)] * len(writes)
        self.history.end(number, outcomes)
        if all(outcome is not Outcome.OK for outcome, _ in outcomes):
            await asyncio.sleep(_AFTER_FAILURE_S)

    async def read(self, entity: type[Entity], key: int, field: str) -> None:
        """One read of a field."""
        began = time.monotonic()
        try:
            found = await self.client.get(entity, key)
        except DatabaseDown:
            self.history.failed_read("DatabaseDown")
            return
        self.history.read(key, None if found is None else {field: getattr(found, field)}, began)

    async def _one(self, kind: str, key: int, noted: Values, call: Any, *, may_be_refused: bool = False) -> Outcome:
        number = self.history.invoke(kind, [(key, noted)])
        try:
            receipt: AsyncReceipt = await call
        except Exception as error:  # noqa: BLE001  # each is noted, and those outside the contract fail the run
            there_is_one = may_be_refused and isinstance(error, Refused)
            outcome = (Outcome.FAIL, None) if there_is_one else self._failed(error)
            self.history.end(number, [outcome], error=type(error).__name__)
            await asyncio.sleep(_AFTER_FAILURE_S)
            return Outcome.OK if there_is_one else outcome[0]
        self.history.end(number, [(Outcome.OK, receipt.version)], place=_place(receipt))
        return Outcome.OK

    def _failed(self, error: Exception) -> tuple[Outcome, int | None]:
        if not isinstance(error, NotApplied | Unknown):
            self.history.unexpected(f"{type(error).__name__}: {error}")
        return _outcome(None, error)


def _place(receipt: AsyncReceipt) -> tuple[int, int] | None:
    return (receipt.partition, receipt.offset) if receipt.offset >= 0 else None


def _outcome(receipt: object, error: Exception | None) -> tuple[Outcome, int | None]:
    """What a caller has to make of an answer."""
    if isinstance(receipt, AsyncReceipt):
        return Outcome.OK, receipt.version
    if isinstance(error, NotApplied | InvalidWrite | Refused):
        return Outcome.FAIL, None
    return Outcome.UNKNOWN, error.version if isinstance(error, Unknown) else None

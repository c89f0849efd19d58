"""What a write returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..write import Write
    from .progress import AsyncProgress


@dataclass(frozen=True, slots=True)
class AsyncReceipt:
    """A write that is durable (or, with `wait="enqueued"`, on its way).

    `version` orders all writes of the key: microseconds since the epoch; 0 for a cache-aside entity, whose rows have
    none. `partition` and `offset` say where the record is; both are -1 while that is not known, and for a write that
    went straight to the database; `offset` alone when the broker has the record and did not say where. The receipt of a
    cache-aside or write-through entity has no topic ("").
    """

    entity: str
    key: str
    version: int
    _write: Write | None = field(default=None, repr=False, compare=False)  # None: no record, the row was written
    _progress: AsyncProgress | None = field(default=None, repr=False, compare=False)

    @property
    def topic(self) -> str:
        return "" if self._write is None else self._write.target.topic

    @property
    def partition(self) -> int:
        return -1 if self._write is None else self._write.partition

    @property
    def offset(self) -> int:
        return -1 if self._write is None else self._write.offset

    async def flushed(self, timeout_s: float = 30.0) -> bool:
        """Wait until the database has the write. False when it had not within `timeout_s` seconds.

        Raises DatabaseDown when the database could not be asked, and NotApplied or Unknown when the write
        failed after all.
        """
        if self._write is None or self._progress is None:
            return True
        return await self._progress.wait(self._write, timeout_s)

"""What a write returns."""

from __future__ import annotations

import msgspec

from ..write import Write
from .progress import AsyncProgress


class AsyncReceipt(msgspec.Struct, frozen=True, eq=False, gc=False):  # a dataclass takes ten times as long
    """A write that is durable (or, with `wait="enqueued"`, on its way).

    `version` orders all writes of the key: microseconds since the epoch; 0 for a cache-aside entity, whose rows have
    none. `partition` and `offset` say where the record is; both are -1 while that is not known, and for a write that
    went straight to the database; `offset` alone when the broker has the record and did not say where. The receipt of a
    cache-aside or write-through entity has no topic ("").
    """

    entity: str
    key: str
    version: int
    _write: Write | None = None  # None: no record, the row was written
    _progress: AsyncProgress | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AsyncReceipt):
            return NotImplemented
        return (self.entity, self.key, self.version) == (other.entity, other.key, other.version)

    def __hash__(self) -> int:
        return hash((self.entity, self.key, self.version))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(entity={self.entity!r}, key={self.key!r}, version={self.version})"

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

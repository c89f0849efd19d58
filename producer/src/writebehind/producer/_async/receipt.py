"""What a write returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..write import Write
    from .progress import AsyncProgress


class AsyncReceipt:
    """A write that is durable (or, with `wait="enqueued"`, on its way)."""

    __slots__ = ("_progress", "_write")

    def __init__(self, write: Write, progress: AsyncProgress) -> None:
        self._write = write
        self._progress = progress

    def __repr__(self) -> str:
        return f"{type(self).__name__}(entity={self.entity!r}, key={self.key!r}, version={self.version})"

    def __eq__(self, other: object) -> bool:
        """Receipts of one write are equal."""
        return isinstance(other, AsyncReceipt) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[str, str, int]:
        return self.entity, self.key, self.version

    @property
    def entity(self) -> str:
        return self._write.target.declaration.name

    @property
    def key(self) -> str:
        """The text of the row's key, as on the topic."""
        return self._write.key_text

    @property
    def version(self) -> int:
        """Orders all writes of the key: microseconds since the epoch."""
        return self._write.version

    @property
    def topic(self) -> str:
        return self._write.target.topic

    @property
    def partition(self) -> int:
        """Where the record is; -1 while that is not known, negative too for a write that went straight to the database."""
        return self._write.partition

    @property
    def offset(self) -> int:
        """Its place in the partition; -1 where `partition` is negative."""
        return self._write.offset

    async def flushed(self, timeout_s: float = 30.0) -> bool:
        """Wait until the database has the write. False when it had not within `timeout_s` seconds.

        Raises DatabaseDown when the database could not be asked, and NotApplied or Unknown when the write
        failed after all.
        """
        return await self._progress.wait(self._write, timeout_s)

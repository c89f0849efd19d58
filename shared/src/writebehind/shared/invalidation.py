"""What a writer that cannot reach the cache leaves in Kafka for the flusher: one record per entry. Pure.

Two of them belong to a write. The first, acknowledged before the row is written, is an intent: the entry is emptied,
and stays so until the writer's time is over. The second, after the commit, ends it at once. A writer that dies in
between is covered by the first.
"""

from __future__ import annotations

import msgspec


class Invalidation(msgspec.Struct, frozen=True, array_like=True):
    """`until_us`: until when the writer may commit, in microseconds since the epoch by its clock; 0 when it is done.

    `forget`: the entry is that of a write-behind entity whose row was made or deleted; see `scripts.forget`.
    """

    entity: str
    key: str
    token: str
    until_us: int = 0
    forget: bool = False

    @property
    def place(self) -> bytes:
        """The Kafka key: what concerns one entry stays in order."""
        return f"{self.entity}:{self.key}".encode()

    def encode(self) -> bytes:
        return _encode(self)


def decode(data: bytes) -> Invalidation:
    """Raises ValueError for what is none."""
    try:
        return _decode(data)
    except msgspec.DecodeError as error:
        raise ValueError("not an invalidation") from error


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Invalidation).decode

"""What closing a client tells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CloseReport:
    """What `close` could not deliver: for each such write its receipt's entity, key and version, and what
    became of it.
    """

    undelivered: list[tuple[str, str, int, Exception]]

    @property
    def clean(self) -> bool:
        return not self.undelivered

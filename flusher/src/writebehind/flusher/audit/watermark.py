"""How far topics have come, and how far they are flushed: what tells a write under way from one that never was."""

from __future__ import annotations

import time

from writebehind.shared import naming
from writebehind.shared.settings import Settings

from ..progress import Ledger
from .suspects import Ends

FRESH_S = 0.2  # how old an answer about progress may be: it only ever grows


class Watermark:
    """Asks broker and database. One per run; a `Ledger` that is closed by whoever made it."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._prefix = settings.kafka.topic_prefix
        self._ledger = ledger
        self._progress: dict[str, tuple[float, Ends]] = {}

    def ends(self, entity: str) -> Ends:
        """The end of each partition's log; 0 where nothing was ever written. Raises ConfigurationError."""
        return {
            (s.log.topic_id, s.partition): 0 if s.log.start == s.log.end and s.stored is None else s.log.end
            for s in self._ledger.topic(naming.topic(self._prefix, entity))
            if s.log is not None
        }

    def progress(self, entity: str) -> Ends:
        """The offset below which everything is in the database, per partition that a flusher has claimed."""
        asked, known = self._progress.get(entity, (-FRESH_S, {}))
        if time.monotonic() - asked < FRESH_S:
            return known
        known = {
            (s.stored.topic_id, s.partition): s.stored.next_offset
            for s in self._ledger.topic(naming.topic(self._prefix, entity))
            if s.stored is not None and s.gap is None
        }
        self._progress[entity] = (time.monotonic(), known)
        return known

"""The cache after a replay: no entry may go on showing a row as it was before.

A replayed record is, for the cache, a record of generation 0: one the entry was made without. `settle.lua` deletes a
clean entry then, and taints a pending one, which is deleted when it gets clean or healed by the flusher when it never
does. A newer pending write stays visible, and a reader that loaded the old row cannot put it there any more.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import redis
from redis.exceptions import RedisError

from writebehind.shared import naming
from writebehind.shared.declaration import Declaration
from writebehind.shared.fold import Settlement
from writebehind.shared.scripts import EntityScripts
from writebehind.shared.settings import CacheSettings

from ..cache import KEYS_PER_CALL, connect, evaluate

log = logging.getLogger("writebehind.flusher")

FAILURES_MAX = 3  # in a row; then the cache is down, and waiting for it each time would only delay the rows


class Entries:
    """Tells the cache of rows that changed. `untold` counts keys it could not be told of."""

    def __init__(self, settings: CacheSettings) -> None:
        self._settings = settings
        self._client: redis.Redis | None = None
        self._failures = 0
        self.untold = 0

    def forget(self, declaration: Declaration, key_texts: Sequence[str]) -> None:
        """Drop or taint the entries of these keys. Never raises for the cache: the rows are right without it."""
        texts = sorted(set(key_texts))
        for at in range(0, len(texts), KEYS_PER_CALL):
            part = texts[at : at + KEYS_PER_CALL]
            if self._failures >= FAILURES_MAX:
                self.untold += len(part)
                continue
            try:
                self._forget(declaration, part)
                self._failures = 0
            except (RedisError, OSError) as error:
                log.debug("%s: entries not corrected (%s)", declaration.name, type(error).__name__)
                self._failures += 1
                self.untold += len(part)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _forget(self, declaration: Declaration, texts: list[str]) -> None:
        if self._client is None:
            self._client = connect(self._settings, "writebehind-letters")
        keys = [naming.cache_key(self._settings.prefix, declaration.name, text) for text in texts]
        nothing = [0] * len(texts)
        foreign = Settlement(texts, nothing, nothing, nothing, [[None] * len(texts) for _ in declaration.sums])
        evaluate(self._client, EntityScripts(declaration).settle(keys, foreign))

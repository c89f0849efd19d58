"""The cache, as cache-aside and write-through see it: a tight budget, and calls of concurrent callers combined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError

from writebehind.shared import direct
from writebehind.shared.scripts import Call
from writebehind.shared.settings import Settings

from ..backends.aio import Behind, Combiner
from ..doubt import Doubt
from .cache import AsyncCache, CacheDown

KEYS_PER_CALL = 1_000  # bounds how long one script keeps the cache from answering others


class _Step:
    """One entry's part of a combined call."""

    __slots__ = ("argument", "done", "entry")

    def __init__(self, entry: str, argument: Any) -> None:
        self.entry = entry
        self.argument = argument
        self.done = False


class AsyncDirectCache(AsyncCache):
    """A cache that is left alone after one call that did not come back within the budget.

    Nothing is in doubt afterwards: an intent that may have arrived runs out, and a row that may have been put is right.

    What a client reads is, for a while after an outage: writers whose breaker is still open go around the cache, and
    no flusher may have carried out their invalidations. As long as there is `Doubt`, entries are not served, neither
    those from before the outage nor those that another reader has filled since.
    """

    def __init__(self, settings: Settings, life_s: float) -> None:
        budget_s = settings.cache.budget_s
        tight = {"timeout_s": budget_s, "connect_timeout_s": budget_s, "breaker_failures": 1}
        super().__init__(settings.cache.model_copy(update=tight))
        self._life_us = int(life_s * 1e6)
        self._lost = 0  # connections, as far as an answer has come since
        self._doubt = Doubt(settings)
        self.behind = Behind()  # fills that nobody waits for
        self._intents: Combiner[_Step] = Combiner(self._intend, KEYS_PER_CALL, at_once=True)
        self._finishes: Combiner[_Step] = Combiner(self._finish, KEYS_PER_CALL, at_once=True)

    async def run(self, call: Call) -> Any:
        """Run a script. Raises CacheDown."""
        self._ask_breaker()
        try:
            reply = await self._line.run(call)
        except (RedisError, OSError) as error:
            self._failed(error)
            raise CacheDown(in_doubt=True) from error
        except BaseException:
            self._breaker.withdrawn()
            raise
        self._breaker.succeeded()
        if self._lost != self._line.lost:
            self._lost = self._line.lost
            self._doubt.begin()
        return reply

    async def look(self, call: Call) -> Any:
        """Run a script that reads entries. Raises CacheDown, also while they may be old."""
        await self.behind.let_pass()
        if not self._doubt.open:
            reply = await self.run(call)
            if not self._doubt.open:  # else this answer was the first one after an outage
                return reply
        raise CacheDown(in_doubt=False)

    async def close(self) -> None:
        self._doubt.close()
        await super().close()

    async def intend(self, entries: Sequence[str], token: str) -> bool:
        """Announce a write. False when the cache is full and does not protect every entry. Raises CacheDown."""
        steps = [_Step(entry, token) for entry in entries]
        for start in range(0, len(steps), KEYS_PER_CALL):
            await self._intents.submit(steps[start : start + KEYS_PER_CALL])
        return all(step.done for step in steps)

    async def finish(self, writes: Sequence[tuple[str, direct.Finishing]]) -> None:
        """End writes, as pairs of entry and what is left there. Raises CacheDown."""
        steps = [_Step(entry, write) for entry, write in writes]
        for start in range(0, len(steps), KEYS_PER_CALL):
            await self._finishes.submit(steps[start : start + KEYS_PER_CALL])

    async def _intend(self, steps: Sequence[_Step]) -> None:
        call = direct.intend([s.entry for s in steps], [s.argument for s in steps], life_us=self._life_us)
        for step, done in zip(steps, direct.read_flags(await self.run(call)), strict=True):
            step.done = done

    async def _finish(self, steps: Sequence[_Step]) -> None:
        await self.run(direct.finish([s.entry for s in steps], [s.argument for s in steps]))

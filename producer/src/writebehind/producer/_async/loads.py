"""Results of cached functions: the entry, or one caller who loads for all."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

from writebehind.shared import direct, naming
from writebehind.shared.direct import State
from writebehind.shared.settings import CacheSettings

from ..backends.aio import Combiner, Limit, sleep
from ..loader import Loader
from ..tokens import Tokens
from .cache import CacheDown
from .direct_cache import KEYS_PER_CALL, AsyncDirectCache
from .direct_reader import LOOK_MAX_S, LOOK_MIN_S

log = logging.getLogger("writebehind.producer")


class _Look:
    """One entry to look at."""

    __slots__ = ("entry", "fields", "state", "token")

    def __init__(self, entry: str) -> None:
        self.entry = entry
        self.state = State.BYPASS
        self.fields: dict[str, str] = {}
        self.token = ""


class _Load:
    """One caller who wants a result that is not kept."""

    __slots__ = ("result", "run")

    def __init__(self, run: Callable[[], Any]) -> None:
        self.run = run
        self.result: Any = None


class AsyncLoads:
    """Gets results. One per client."""

    def __init__(self, settings: CacheSettings, cache: AsyncDirectCache) -> None:
        self._prefix = settings.prefix
        self._bytes_max = settings.patch_bytes_max
        self._cache = cache
        self._tokens = Tokens()
        self._looks: dict[str, Combiner[_Look]] = {}
        self._limits: dict[str, Limit] = {}
        # By entry, as long as somebody waits there.
        self._shared: WeakValueDictionary[str, Combiner[_Load]] = WeakValueDictionary()

    def entry(self, loader: Loader, key_text: str) -> str:
        """The cache key of a result."""
        return naming.cache_key(self._prefix, loader.name, key_text)

    async def get(self, loader: Loader, key_text: str, run: Callable[[], Any]) -> Any:
        """The kept result, or what `run` gives. Raises what `run` raises, and InvalidWrite."""
        look = _Look(self.entry(loader, key_text))
        deadline, delay_s = time.monotonic() + loader.options.load_s, LOOK_MIN_S
        await self._look(loader, look)
        while look.state is State.WAIT and time.monotonic() < deadline:
            await sleep(delay_s)
            delay_s = min(2 * delay_s, LOOK_MAX_S)
            await self._look(loader, look)
        # 1. The entry, or 2. what it holds until we have loaded it anew. 3. We load for all. 4. Nobody can be told.
        if look.state is State.HIT:
            try:
                return loader.decode(look.fields)
            except ValueError:
                await self._let_go(look.entry)
        elif look.state is State.LOAD and look.fields:
            return await self._refreshed(loader, look, run)
        elif look.state is State.LOAD:
            return await self._load(loader, look, run)
        return await self._load_unkept(loader, look.entry, run)

    async def _refreshed(self, loader: Loader, look: _Look, run: Callable[[], Any]) -> Any:
        """An entry that is about to expire. What it holds still counts when it cannot be loaded now."""
        try:
            return await self._load(loader, look, run)
        except Exception as error:  # noqa: BLE001  # whatever the function raises
            try:
                kept = loader.decode(look.fields)
            except ValueError:
                raise error from None
            log.warning("%s: not loaded before it expires (%s)", loader.label, type(error).__name__)
            return kept

    async def _load(self, loader: Loader, look: _Look, run: Callable[[], Any]) -> Any:
        """Load and fill, unless an invalidation in between has taken the right to."""
        try:
            async with self._limit(loader):
                started = time.perf_counter()
                result = await run()
                load_us = max(1, int((time.perf_counter() - started) * 1e6))
            text = None if result is None else loader.encode(result)
        except BaseException:
            if not look.fields:
                await self._let_go(look.entry)  # the next one need not wait until our time is over
            raise
        if text is not None and len(text.encode()) > self._bytes_max:
            log.warning("%s: a result is larger than cache.patch_bytes_max and is not kept", loader.label)
            await self._let_go(look.entry)
            return result
        try:
            await self._cache.run(direct.fill([look.entry], [loader.filling(text, load_us)], token=look.token))
        except CacheDown:
            log.info("%s: a result was not kept", loader.label)
        return result

    async def _load_unkept(self, loader: Loader, entry: str, run: Callable[[], Any]) -> Any:
        """Load for all callers who ask for the same before the load begins: a dead cache does not stampede."""
        load = _Load(run)
        shared = self._shared.get(entry)
        if shared is None:

            async def load_once(waiting: Sequence[_Load]) -> None:
                async with self._limit(loader):
                    result = await waiting[0].run()
                for one in waiting:
                    one.result = result

            shared = self._shared.setdefault(entry, Combiner(load_once, KEYS_PER_CALL))
        await shared.submit([load])
        return load.result

    def _limit(self, loader: Loader) -> Limit:
        return self._limits.setdefault(loader.name, Limit(loader.options.loads_max))

    async def _let_go(self, entry: str) -> None:
        try:
            await self._cache.run(direct.void([entry]))
        except CacheDown:
            log.debug("the right to load an entry was not given back")

    async def _look(self, loader: Loader, look: _Look) -> None:
        combiner = self._looks.get(loader.name)
        if combiner is None:

            async def ask(waiting: Sequence[_Look]) -> None:
                await self._ask(loader, waiting)

            combiner = self._looks.setdefault(loader.name, Combiner(ask, KEYS_PER_CALL, at_once=True))
        await combiner.submit([look])

    async def _ask(self, loader: Loader, looks: Sequence[_Look]) -> None:
        """Entries of all concurrent callers in one call."""
        token = self._tokens.one()
        options = loader.options
        early = direct.earliness(options.early_recompute_beta)
        call = direct.read([one.entry for one in looks], token=token, lease_us=int(options.load_s * 1e6), early=early)
        try:
            reply = await self._cache.look(call)
        except CacheDown:
            for one in looks:
                one.state, one.fields = State.BYPASS, {}
            return
        for one, found in zip(looks, direct.read_found(reply), strict=True):
            one.state, one.fields, one.token = found.state, found.fields, token

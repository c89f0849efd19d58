"""`cached`: results of a function of yours, for reads that are not one row."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from ._async.cached import AsyncCached
from ._async.client import AsyncClient
from ._sync.cached import Cached
from ._sync.client import Client
from .loader import Options

P = ParamSpec("P")
R = TypeVar("R")


class _Decorator(Protocol):
    @overload
    def __call__(self, function: Callable[Concatenate[AsyncClient, P], Awaitable[R]], /) -> AsyncCached[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Client, P], R], /) -> Cached[P, R]: ...


def cached(  # each is an option of its own
    *,
    ttl_s: float,
    ttl_jitter: float = 0.1,
    negative_ttl_s: float = 5.0,
    load_s: float = 10.0,
    loads_max: int = 4,
    early_recompute_beta: float = 0.0,
    name: str | None = None,
) -> _Decorator:
    """Cache what a function gives, by its arguments: joins, aggregates, answers of other services.

        @cached(ttl_s=60)
        async def leaders(client: AsyncClient, game: int, limit: int = 10) -> list[Leader]:
            ...

        await leaders(client, 7)
        await leaders.invalidate(client, 7)  # after a change was committed

    The first parameter is the client and no part of the key; it may be an AsyncClient, or a Client for a plain
    function. The other arguments must be plain values (numbers, texts, dates, UUIDs, enums, and lists, tuples, sets
    or dicts of them). The result is kept as JSON and read as what the return annotation says: pydantic models,
    dataclasses, entities, and collections of them. A result that a hit gives is equal, and never the same object.

    Of all callers of one key, in all processes, one loads; the others wait for it. An invalidation while it loads takes
    its right to keep what it has read. When the cache is down the function is called, at most `loads_max` times at
    once, and callers who ask for the same before a load begins share it.

    ttl_s: life of a result, in seconds; each gets up to `ttl_jitter` of it less.
    negative_ttl_s: how long None is kept, in seconds.
    load_s: how long a load may take, in seconds: until then the others wait; after that the next one may load, and
        those who have waited call the function themselves.
    loads_max: calls of the function at a time, per client.
    early_recompute_beta: above 0, a caller now and then loads anew shortly before the result expires; see CacheAside.
    name: of the cache keys; by default module and name of the function.
    Raises DeclarationError when the function has no return annotation, or an option is out of range.
    """
    options = Options(
        ttl_s=ttl_s,
        ttl_jitter=ttl_jitter,
        negative_ttl_s=negative_ttl_s,
        load_s=load_s,
        loads_max=loads_max,
        early_recompute_beta=early_recompute_beta,
    )

    def decorate(function: Callable[..., Any], /) -> Any:
        made = AsyncCached if inspect.iscoroutinefunction(function) else Cached
        return made(function, options, name)

    return decorate

"""A function whose results are cached."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Concatenate, Generic, ParamSpec, TypeVar

from ..loader import Loader, Options
from .client import AsyncClient

P = ParamSpec("P")
R = TypeVar("R")


class AsyncCached(Generic[P, R]):
    """A function made by `cached`: call it with the client and its arguments."""

    def __init__(
        self, function: Callable[Concatenate[AsyncClient, P], Awaitable[R]], options: Options, name: str | None
    ) -> None:
        self._function = function
        self._loader = Loader(function, options, name)
        functools.update_wrapper(self, function)

    async def __call__(self, client: AsyncClient, *args: P.args, **kwargs: P.kwargs) -> R:
        """The cached result, or the function's own. Raises what the function raises, and InvalidWrite for an argument
        that cannot be part of a key or a result that is not of the annotated type.
        """
        text = self._loader.key_text(*args, **kwargs)
        result: R = await client.loaded(self._loader, text, lambda: self._function(client, *args, **kwargs))
        return result

    async def invalidate(self, client: AsyncClient, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget the result for these arguments. Call it after the change is committed: a load that is under way may
        not keep what it has read. While the cache is down a flusher that knows direct entities carries it out.

        Raises NotApplied when neither the cache nor the broker can be told.
        """
        await client.unloaded(self._loader, self._loader.key_text(*args, **kwargs))

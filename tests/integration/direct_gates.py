"""Barriers inside a client's calls: a test stops it between two steps, or has it die there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from writebehind.producer import AsyncClient


class Gate:
    """`reached` when the call has come here; it goes on when `opened`."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def pass_(self) -> None:
        self.reached.set()
        await self.opened.wait()


Act = Callable[[], Awaitable[None]]
STEPS = ("before the intent", "before the row", "after the row", "after the end")


def at(client: AsyncClient, step: str, act: Act) -> None:
    """Do something each time the client comes to a step of a write, or "before the fill" of a read."""
    direct = client._direct
    match step:
        case "before the intent":
            _wrap(direct._guards, "open", before=act)
        case "before the row":
            _wrap(direct._rows, "write", before=act)
        case "after the row":
            _wrap(direct._guards, "end", before=act)
        case "after the end":
            _wrap(direct._guards, "end", after=act)
        case "before the fill":
            _wrap(direct._reader._rows, "select", after=act)
        case "before the late fill":
            _wrap(client._reader._rows, "select", after=act)
        case _:
            raise ValueError(step)


def _wrap(part: Any, name: str, *, before: Act | None = None, after: Act | None = None) -> None:
    original = getattr(part, name)

    async def wrapped(*arguments: Any, **named: Any) -> Any:
        if before is not None:
            await before()
        result = await original(*arguments, **named)
        if after is not None:
            await after()
        return result

    setattr(part, name, wrapped)

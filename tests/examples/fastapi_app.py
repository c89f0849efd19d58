"""A FastAPI service: the client lives as long as the application, and is opened in each worker, after any fork."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request

from writebehind.producer import AsyncClient, NotApplied, Unknown

from .entities import Player


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncClient.open() as client:  # closing drains what is under way
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


def client_of(request: Request) -> AsyncClient:
    client: AsyncClient = request.app.state.client
    return client


Client = Annotated[AsyncClient, Depends(client_of)]


@app.post("/players/{player_id}/rounds")
async def play(player_id: int, points: int, client: Client) -> dict[str, int]:
    try:
        receipt = await client.update(Player, player_id, points=points, best=points)
    except NotApplied as error:
        raise HTTPException(503, "try again") from error
    except Unknown as error:
        raise HTTPException(504, "read before you try again") from error
    return {"version": receipt.version}


@app.get("/players/{player_id}")
async def show(player_id: int, client: Client) -> Player:
    player = await client.get(Player, player_id)
    if player is None:
        raise HTTPException(404)
    return player

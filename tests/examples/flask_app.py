"""A synchronous service, as with Flask or Django: one client per process, opened on first use, after any fork."""

from __future__ import annotations

import atexit
import functools
from typing import Any

from flask import Flask, abort

from writebehind.producer import Client, NotApplied

from .entities import Player

app = Flask(__name__)


@functools.cache
def client() -> Client:
    opened = Client.open().start()
    atexit.register(opened.close)
    return opened


@app.post("/players/<int:player_id>/rounds/<int:points>")
def play(player_id: int, points: int) -> dict[str, int]:
    try:
        receipt = client().update(Player, player_id, points=points, best=points)
    except NotApplied:
        abort(503)
    return {"version": receipt.version}


@app.get("/players/<int:player_id>")
def show(player_id: int) -> dict[str, Any]:
    player = client().get(Player, player_id)
    if player is None:
        abort(404)
    return player.model_dump()

"""The example services, executed against real servers and a real flusher."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.zygote import Popen
from writebehind.embedded import Isolation
from writebehind.flusher.migrate import migrate
from writebehind.producer import Client
from writebehind.shared.registry import Registry
from writebehind.shared.settings import load_settings

from .entities import DDL, Player

ROOT = Path(__file__).parents[2]


@pytest.fixture
def deployed(writebehind_isolated: Isolation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Isolation]:
    """Table, bookkeeping, topics, and a flusher process."""
    for name, value in writebehind_isolated.env.items():
        monkeypatch.setenv(name, value)
    with psycopg.connect(writebehind_isolated.database_url, autocommit=True) as connection:
        connection.execute(DDL.encode())
    migrate(load_settings(), Registry([Player]))
    command = [sys.executable, "-m", "writebehind.flusher", "flush", "--entities", "tests.examples.entities"]
    flusher: Popen[bytes] = Popen(command, cwd=ROOT, env=dict(os.environ), stderr=subprocess.DEVNULL)
    try:
        yield writebehind_isolated
    finally:
        flusher.terminate()
        assert flusher.wait(30) == 0


def row_once_flushed(isolation: Isolation, player: int) -> tuple[object, ...] | None:
    """The row, once the flusher has all that was written so far."""
    with Client.open() as client:
        assert client.update(Player, player, name="last").flushed(timeout_s=60)
    with psycopg.connect(isolation.database_url) as connection:
        return connection.execute("SELECT name, points, best FROM players WHERE id = %s", (player,)).fetchone()


async def test_the_fastapi_service_writes_behind(deployed: Isolation) -> None:
    from .fastapi_app import app

    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://t") as service:
        assert (await service.get("/players/7")).status_code == 404
        for points in (3, 9, 4):
            assert (await service.post("/players/7/rounds", params={"points": points})).status_code == 200
        assert (await service.get("/players/7")).json() == {"id": 7, "name": None, "points": 16, "best": 9}
    assert await asyncio.to_thread(row_once_flushed, deployed, 7) == ("last", 16, 9)


def test_the_flask_service_writes_behind(deployed: Isolation) -> None:
    from .flask_app import app, client

    service = app.test_client()
    try:
        assert service.get("/players/8").status_code == 404
        for points in (3, 9, 4):
            assert service.post(f"/players/8/rounds/{points}").status_code == 200
        assert service.get("/players/8").get_json() == {"id": 8, "name": None, "points": 16, "best": 9}
    finally:
        assert client().close().clean
        client.cache_clear()
    assert row_once_flushed(deployed, 8) == ("last", 16, 9)

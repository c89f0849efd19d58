"""F14, on its own: a topic is deleted and made again under a running flusher. Its partitions stop, and say so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psycopg
from confluent_kafka.admin import AdminClient

from tests.faults.entities import DDL, Session
from tests.faults.fleet import Slot
from tests.faults.world import PARTITIONS, SETTINGS, World, load
from writebehind.embedded.isolation import Isolation, isolated
from writebehind.embedded.supervisor import Supervisor
from writebehind.flusher.migrate import migrate
from writebehind.producer import AsyncClient, Settings
from writebehind.shared import naming
from writebehind.shared.declaration import declaration_of
from writebehind.shared.registry import Registry

_TIMEOUT_S: Final = 40.0
_WRITES: Final = 20
_SAID: Final = "the topic was deleted and created again"


def recreated(supervisor: Supervisor, world: World, folder: Path) -> list[str]:
    """What went wrong, nothing if the flusher noticed and skipped nothing."""
    with isolated(world.stack.env(), label="recreated") as corner:
        env = {**corner.env, **SETTINGS}
        settings = load(env)
        _prepare(corner, settings)
        slot = Slot(supervisor, env, folder, 14, {}, entities=["tests.faults.entities:Session"])
        slot.start()
        try:
            return _scenario(settings, corner, slot)
        finally:
            slot.kill()


def _scenario(settings: Settings, corner: Isolation, slot: Slot) -> list[str]:
    if not asyncio.run(_write(settings, 0, flushed=True)):
        return ["F14: nothing was flushed before the topic was made again"]
    before = _progress(corner)
    _recreate(settings)
    asyncio.run(_write(settings, _WRITES, flushed=False))
    log = slot.log_path
    if not _wait(lambda: log.read_text(errors="replace").count(_SAID) >= PARTITIONS):
        return [f"F14: the flusher did not say that {_SAID}"]
    if _progress(corner) != before:
        return ["F14: the flusher went on in a topic that was made again"]
    return []


def _prepare(corner: Isolation, settings: Settings) -> None:
    statement = next(ddl for ddl in DDL if declaration_of(Session).table in ddl)
    with psycopg.connect(corner.database_url, autocommit=True) as connection:
        connection.execute(statement.encode())
    migrate(settings, Registry([Session]))


async def _write(settings: Settings, first: int, *, flushed: bool) -> bool:
    async with AsyncClient.open(settings) as client:
        writes = [(key, {"step": first + key}) for key in range(_WRITES)]
        receipts = await client.update_many(Session, writes)
        return not flushed or all([await receipt.flushed(_TIMEOUT_S) for receipt in receipts])


def _recreate(settings: Settings) -> None:
    topic = naming.topic(settings.kafka.topic_prefix, declaration_of(Session).name)
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers, "log_level": 3})
    admin.delete_topics([topic], operation_timeout=_TIMEOUT_S)[topic].result()
    if not _wait(lambda: topic not in admin.list_topics(timeout=5).topics):
        raise RuntimeError(f"the topic {topic} is not gone")
    migrate(settings, Registry([Session]))


def _progress(corner: Isolation) -> list[tuple[int, int]]:
    query = f'SELECT partition, next_offset FROM "{corner.bookkeeping_schema}".progress ORDER BY partition'
    with psycopg.connect(corner.database_url, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def _wait(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True

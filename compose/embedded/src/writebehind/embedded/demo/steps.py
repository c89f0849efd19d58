"""The steps of the demo against running servers: prepare, write everything, read everything back."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql

from writebehind.embedded.demo.dataset import Departure
from writebehind.embedded.demo.entities import Aircraft, Route
from writebehind.embedded.demo.expected import Key, Row
from writebehind.embedded.demo.flusher import ENTITIES, Flusher, command
from writebehind.embedded.demo.monitor import Monitor
from writebehind.embedded.demo.replay import Tally, replay
from writebehind.embedded.demo.view import Bar
from writebehind.embedded.demo.watch import Watch
from writebehind.embedded.errors import EmbeddedError
from writebehind.embedded.isolation import Isolation
from writebehind.shared import naming
from writebehind.shared.declaration import declaration_of
from writebehind.shared.entity import Entity

if TYPE_CHECKING:
    from writebehind.producer import AsyncClient

_MIGRATE_TIMEOUT_S: Final = 60.0
_FIRST_FLUSH_TIMEOUT_S: Final = 60.0
_FLUSHED_TIMEOUT_S: Final = 120.0
_KEYS_PER_READ: Final = 1000


def prepare(corner: Isolation) -> None:
    """Create the tables, as a service's own migrations would, then what writebehind needs beside them."""
    with psycopg.connect(corner.database_url, autocommit=True) as connection:
        connection.execute(files("writebehind.embedded.demo").joinpath("tables.sql").read_bytes())
    done = subprocess.run(
        command("migrate", "--entities", ENTITIES),
        capture_output=True,
        text=True,
        timeout=_MIGRATE_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise EmbeddedError("`writebehind migrate` failed", exit_code=done.returncode, log=done.stderr or done.stdout)


async def write(corner: Isolation, flusher: Flusher, departures: Sequence[Departure], bar: Bar) -> tuple[Tally, float]:
    """Replay the departures, wait until the database has them all. Returns the tally and the replay's own seconds."""
    from writebehind.producer import AsyncClient

    tally = Tally()
    async with AsyncClient.open() as client, _watched(corner, flusher, tally, bar) as watch:

        async def kill_flusher() -> None:
            # A flusher that has not begun has nothing to lose.
            await watch.until(
                lambda sample: sample.flushed > 0, what="the first flush", timeout_s=_FIRST_FLUSH_TIMEOUT_S
            )
            flusher.kill()
            bar.console.print(f"flusher killed with -9 after {tally.departures:,} departures, and started again")
            flusher.start()

        started_at = time.monotonic()
        await replay(client, departures, tally, half_way=kill_flusher)
        seconds = time.monotonic() - started_at
        # Whoever holds a receipt can wait for the database; the newest of each partition speaks for all before it.
        for receipt in tally.last.values():
            await receipt.flushed(timeout_s=_FLUSHED_TIMEOUT_S)  # when that is not enough, `until` says so
        await watch.until(
            lambda sample: sample.flushed >= tally.acknowledged,
            what=f"the flush of {tally.acknowledged:,} writes",
            timeout_s=_FLUSHED_TIMEOUT_S,
        )
    return tally, seconds


def stored(corner: Isolation, entity: type[Entity]) -> dict[Key, Row]:
    """Every row of an entity's table."""
    declaration = declaration_of(entity)
    names = [column.name for column in (*declaration.keys, *declaration.fields)]
    query = sql.SQL("SELECT {} FROM {}").format(
        sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(declaration.table)
    )
    with psycopg.connect(corner.database_url) as connection:
        found = connection.execute(query).fetchall()
    width = len(declaration.keys)
    return {tuple(row[:width]): dict(zip(names[width:], row[width:], strict=True)) for row in found}


async def cached(wanted: Iterable[tuple[type[Entity], Iterable[Key]]]) -> list[dict[Key, Row]]:
    """The rows of these keys as a service reads them, through the cache; one dictionary per entity."""
    from writebehind.producer import AsyncClient

    async with AsyncClient.open() as client:
        return [await _read(client, entity, list(keys)) for entity, keys in wanted]


async def _read(client: AsyncClient, entity: type[Entity], keys: list[Key]) -> dict[Key, Row]:
    names = [column.name for column in declaration_of(entity).fields]
    rows: dict[Key, Row] = {}
    for first in range(0, len(keys), _KEYS_PER_READ):
        found = await client.get_many(entity, keys[first : first + _KEYS_PER_READ])
        rows.update({key: {name: getattr(instance, name) for name in names} for key, instance in found.items()})
    return rows


@contextlib.asynccontextmanager
async def _watched(corner: Isolation, flusher: Flusher, tally: Tally, bar: Bar) -> AsyncIterator[Watch]:
    """The watch, running; its failure ends the body, and comes out as itself."""
    topics = [naming.topic(corner.topic_prefix, declaration_of(entity).name) for entity in (Route, Aircraft)]
    try:
        async with (
            await psycopg.AsyncConnection.connect(corner.database_url, autocommit=True) as connection,
            asyncio.TaskGroup() as group,
        ):
            watch = Watch(
                Monitor(connection, bookkeeping=corner.bookkeeping_schema, topics=topics), flusher, tally, bar
            )
            task = group.create_task(watch.run())
            yield watch
            task.cancel()
    except BaseExceptionGroup as errors:
        raise _first(errors) from errors


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

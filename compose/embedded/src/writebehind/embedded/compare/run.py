"""The course of a comparison on one page: servers, tables, then for each strategy load, probes and outages."""

from __future__ import annotations

import asyncio
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg
import redis
from psycopg import sql
from rich.console import Console

from writebehind.embedded.demo.flusher import Flusher, command
from writebehind.embedded.errors import EmbeddedError
from writebehind.embedded.isolation import ExistingServers, Isolation, isolated
from writebehind.embedded.server import Server
from writebehind.embedded.stack import Stack
from writebehind.embedded.supervisor import Supervisor
from writebehind.producer import AsyncClient
from writebehind.shared.declaration import declaration_of

from .entities import DDL, STRATEGIES, Row
from .load import BODY_CHARS, Plan, Subject, loaded, probe
from .outcome import Comparison, Latency, Load, Outage, Seen, Strategy

MODULE = "writebehind.embedded.compare.entities"
MIGRATE_TIMEOUT_S = 60.0
BEFORE_S, AFTER_S = 1.0, 3.0  # of load around an outage
NOT_OURS = "these servers are not embedded: they can be used but not killed"
SETTINGS = {"WRITEBEHIND_FLUSHER__SESSION_TIMEOUT_S": "6"}


def run(plan: Plan, console: Console) -> Comparison:
    """Compare on the servers that the settings name, else on embedded ones. Raises EmbeddedError and our own errors."""
    with ExitStack() as cleanup:
        console.print("starting the servers")
        env, stack = cleanup.enter_context(_servers())
        corner = cleanup.enter_context(isolated(env, label="compare"))
        os.environ.update({**corner.env, **SETTINGS})  # the clients' settings, and what the commands inherit
        _prepare(corner, plan)
        flusher = cleanup.enter_context(_flusher())
        comparison = Comparison(_parameters(plan), _machine(corner), None if stack else NOT_OURS)
        for name, cls in STRATEGIES.items():
            console.print(f"{name}: load for {plan.seconds:g} s, then {'outages' if stack else 'done'}")
            comparison.strategies[name] = asyncio.run(_measure(cls, plan, corner, stack))
            flusher.check()
        return comparison


async def _measure(cls: type[Row], plan: Plan, corner: Isolation, stack: Stack | None) -> Strategy:
    async with AsyncClient.open() as writer, AsyncClient.open() as reader:
        subject = Subject(cls, writer, reader, plan)
        async with loaded(subject):
            await asyncio.sleep(min(1.0, plan.seconds / 4))  # connections, plans and compilers get warm
        began = time.perf_counter()
        async with loaded(subject) as samples:
            await asyncio.sleep(plan.seconds)
        load = Load.of(samples, time.perf_counter() - began)
        seen, statements = await _probed(subject, corner)
        # The database first: its outage is about what the cache holds, which the other outage takes away.
        database = await _outage(subject, stack.postgres, plan) if stack else None
        cache = await _outage(subject, stack.valkey, plan) if stack else None
        return Strategy(load, seen, statements, cache, database)


async def _probed(subject: Subject, corner: Isolation) -> tuple[Seen, float]:
    """How soon writes are seen under load, and how many statements a write costs the table."""
    url, table = corner.database_url, declaration_of(subject.cls).table
    async with _counted(url, table) as count:
        async with loaded(subject) as samples:
            seen, in_table = await probe(subject, url, max(1.0, subject.plan.seconds / 3))
        last_seen, last_in_table = await probe(subject, url, 0)  # everything before it is flushed
        writes = sum(one.op == "write" and one.error is None for one in samples) + len(seen) + len(last_seen)
        statements = await count() / writes
    return Seen(Latency.of(seen + last_seen), Latency.of(in_table + last_in_table)), round(statements, 4)


@asynccontextmanager
async def _counted(url: str, table: str) -> AsyncIterator[Any]:
    """Count the statements that update the table, which its rows' statistics do not tell: by a trigger."""
    function, sequence = sql.Identifier(f"{table}_count"), sql.Identifier(f"{table}_statements")
    text = sql.Literal(f"{table}_statements")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(sql.SQL("CREATE SEQUENCE {}").format(sequence))
        body = sql.SQL("BEGIN PERFORM nextval({}); RETURN NULL; END").format(text).as_string(connection)
        await connection.execute(
            sql.SQL("CREATE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql AS {}").format(function, sql.Literal(body))
        )
        await connection.execute(
            sql.SQL("CREATE TRIGGER counted AFTER UPDATE ON {} FOR EACH STATEMENT EXECUTE FUNCTION {}()").format(
                sql.Identifier(table), function
            )
        )

        async def count() -> int:
            query = sql.SQL("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {}").format(sequence)
            row = await (await connection.execute(query)).fetchone()
            return row[0] if row else 0

        try:
            yield count
        finally:
            await connection.execute(sql.SQL("DROP TRIGGER counted ON {}").format(sql.Identifier(table)))


async def _outage(subject: Subject, server: Server, plan: Plan) -> Outage:
    """Kill a server under load, start it again after a while."""
    began = time.perf_counter()
    async with loaded(subject, apart=True) as samples:
        await asyncio.sleep(BEFORE_S)
        await asyncio.to_thread(server.kill)
        killed_s = time.perf_counter() - began
        await asyncio.sleep(plan.outage_s)
        started_s = time.perf_counter() - began
        await asyncio.to_thread(server.start)
        await asyncio.sleep(AFTER_S)
    return Outage.of(samples, killed_s, started_s)


@contextmanager
def _servers() -> Iterator[tuple[Mapping[str, str], Stack | None]]:
    existing = ExistingServers.from_environment(os.environ)
    if existing is not None:
        yield existing.env(), None
        return
    with Stack(kafka_jit="full") as stack:
        yield stack.env(), stack


def _prepare(corner: Isolation, plan: Plan) -> None:
    """Tables with a row per key, and what writebehind needs beside them."""
    with psycopg.connect(corner.database_url, autocommit=True) as connection:
        for statement in filter(str.strip, DDL.split(";")):
            connection.execute(statement.encode())
        for cls in STRATEGIES.values():
            table = sql.Identifier(declaration_of(cls).table)
            insert = sql.SQL("INSERT INTO {} (id, body, stamp) SELECT n, %s, 0 FROM generate_series(0, %s) AS n")
            connection.execute(insert.format(table), ("0" * BODY_CHARS, plan.keys))
    line = command("migrate", "--entities", MODULE)
    done = subprocess.run(line, capture_output=True, text=True, timeout=MIGRATE_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise EmbeddedError("`writebehind migrate` failed", exit_code=done.returncode, log=done.stderr or done.stdout)


@contextmanager
def _flusher() -> Iterator[Flusher]:
    supervisor = Supervisor()
    try:
        folder = Path(tempfile.mkdtemp(prefix="writebehind-compare-"))
        supervisor.remove_at_end(folder)
        flusher = Flusher(supervisor, folder, os.environ, MODULE)
        flusher.start()
        yield flusher
        flusher.stop()
    finally:
        supervisor.close()


def _parameters(plan: Plan) -> dict[str, Any]:
    strategies = {name: repr(declaration_of(cls).strategy) for name, cls in STRATEGIES.items()}
    return {**asdict(plan), "body_chars": BODY_CHARS, "strategies": strategies}


def _machine(corner: Isolation) -> dict[str, Any]:
    with psycopg.connect(corner.database_url) as connection:
        names = ("server_version", "fsync", "synchronous_commit")
        postgres = {name: _shown(connection, name) for name in names}
    with redis.Redis.from_url(corner.cache_url) as client:
        told = client.info("server")
        cache = next((f"{name} {told[key]}" for name, key in _CACHES if key in told), "unknown")
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_gb": round(memory_gb, 1),
        "python": platform.python_version(),
        "postgres": postgres,
        "cache": cache,
    }


_CACHES = (("Valkey", "valkey_version"), ("Redis", "redis_version"))


def _shown(connection: psycopg.Connection[Any], name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    return str(row[0]) if row else "unknown"

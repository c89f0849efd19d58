"""The faults that hit the servers: stopped, killed, full, locked, emptied. Each leaves the server as it was."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import psycopg

from tests.faults.schedule import Planned
from tests.faults.stage import NotPossible, Stage
from writebehind.embedded import EmbeddedError
from writebehind.embedded.server import Server

Injector = Callable[[Stage, Planned], str]

_OURS: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'writebehind%'"


def _server(stage: Stage, planned: Planned) -> Server:
    return next(server for server in stage.world.stack.servers if server.name == planned.variant.what)


def stopped(stage: Stage, planned: Planned) -> str:
    """F4, F5, F6: connections stay open, nothing answers."""
    server = _server(stage, planned)
    server.pause()
    try:
        stage.wait(planned.seconds)
    finally:
        server.resume()
        server.wait_ready()
    return ""


def killed(stage: Stage, planned: Planned) -> str:
    """F7: `kill -9`, and started again; the cache comes back empty."""
    server = _server(stage, planned)
    server.kill()
    try:
        stage.wait(planned.seconds)
    finally:
        try:
            server.start()
        except EmbeddedError:  # once more: without it all that follows would prove nothing
            server.start()
    return ""


def backends_terminated(stage: Stage, planned: Planned) -> str:
    """F9: twice, so that a batch that is tried again may be hit as well."""
    with stage.world.connect() as connection:
        ended = 0
        for _ in range(3):
            ended += len(connection.execute(_OURS.encode()).fetchall())
            stage.wait(0.3)
    return f"{ended} backends"


def read_only(stage: Stage, planned: Planned) -> str:
    """F9: as after a failover that left us on the standby (25006)."""
    with stage.world.connect() as connection:
        _set(connection, "ALTER SYSTEM SET default_transaction_read_only = on")
        try:
            stage.wait(planned.seconds)
        finally:
            _set(connection, "ALTER SYSTEM RESET default_transaction_read_only")
    return ""


def _set(connection: psycopg.Connection[Any], statement: str) -> None:
    connection.execute(statement.encode())
    connection.execute("SELECT pg_reload_conf()")


def connections_exhausted(stage: Stage, planned: Planned) -> str:
    """F9: whoever connects is told that there are too many (53300)."""
    deadline = time.monotonic() + planned.seconds
    with contextlib.ExitStack() as held:
        control = held.enter_context(stage.world.connect())
        control.execute(_OURS.encode())
        count = 0
        while time.monotonic() < deadline and not stage.stopping.is_set():
            try:
                held.enter_context(stage.world.connect())
                count += 1
            except psycopg.OperationalError:
                stage.wait(0.05)
    return f"{count} connections held"


def foreign_lock(stage: Stage, planned: Planned) -> str:
    """F9: a table, or the progress rows, are locked by somebody else for longer than a flusher waits (55P03)."""
    progress = planned.number % 2 == 0
    statement = (
        "SELECT 1 FROM writebehind.progress FOR UPDATE"
        if progress
        else "LOCK TABLE fault_registers, fault_counters, fault_visitors IN ACCESS EXCLUSIVE MODE"
    )
    with stage.world.connect() as connection, connection.transaction():
        connection.execute(statement.encode())
        stage.wait(planned.seconds)
    return "progress rows" if progress else "tables"


def deadlock_partner(stage: Stage, planned: Planned) -> str:
    """F9: somebody locks rows in the opposite order."""
    deadline = time.monotonic() + planned.seconds
    lost = 0
    with stage.world.connect() as connection:
        # The other side is to be the one that finds the deadlock, and is ended by it.
        connection.execute("SET deadlock_timeout = '5s'")
        connection.execute("SET lock_timeout = '2s'")
        while time.monotonic() < deadline and not stage.stopping.is_set():
            try:
                with connection.transaction():
                    connection.execute("SELECT 1 FROM fault_registers WHERE id >= 15 FOR UPDATE")
                    stage.wait(0.3)
                    connection.execute("SELECT 1 FROM fault_registers WHERE id < 15 FOR UPDATE")
            except psycopg.OperationalError:
                lost += 1
    return f"the partner lost {lost} times"


def disk_full(stage: Stage, planned: Planned) -> str:
    """F10: a table cannot grow (53100)."""
    if stage.mount is None:
        raise NotPossible("mounting a small file system needs root")
    stage.mount.fill()
    try:
        stage.wait(planned.seconds)
    finally:
        stage.mount.free()
    return ""


def flush_all(stage: Stage, planned: Planned) -> str:
    """F11: the cache forgets everything, pending writes as well."""
    with stage.world.cache() as cache:
        cache.flushall()
    return ""


def script_flush(stage: Stage, planned: Planned) -> str:
    """F11: the cache forgets the scripts."""
    with stage.world.cache() as cache:
        cache.script_flush()
    return ""


def client_kill(stage: Stage, planned: Planned) -> str:
    """F11: the cache ends everybody's connections."""
    with stage.world.cache() as cache:
        ended = cache.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    return f"{ended} clients"


def out_of_memory(stage: Stage, planned: Planned) -> str:
    """F11: the cache refuses what needs memory."""
    with stage.world.cache() as cache:
        cache.config_set("maxmemory", "1")
        try:
            stage.wait(planned.seconds)
        finally:
            cache.config_set("maxmemory", "0")
    return ""


INJECTORS: Final[Mapping[tuple[str, str], Injector]] = {
    ("F4", "stopped"): stopped,
    ("F5", "stopped"): stopped,
    ("F6", "stopped"): stopped,
    ("F7", "killed"): killed,
    ("F9", "backends terminated"): backends_terminated,
    ("F9", "read-only"): read_only,
    ("F9", "connections exhausted"): connections_exhausted,
    ("F9", "foreign lock"): foreign_lock,
    ("F9", "deadlock partner"): deadlock_partner,
    ("F10", "disk full"): disk_full,
    ("F11", "FLUSHALL"): flush_all,
    ("F11", "SCRIPT FLUSH"): script_flush,
    ("F11", "CLIENT KILL"): client_kill,
    ("F11", "out of memory"): out_of_memory,
}

"""An independent look at the tables while they are written: versions of registers, and sums of transfers.

It asks Postgres itself, on a connection of its own that no fault touches but those of the server.
"""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any, Final

import psycopg

from tests.faults.histories import Writer
from writebehind.producer import load_settings

EVERY_S: Final = 0.1
QUERY_TIMEOUT_MS: Final = 30_000


def poll(path: Path) -> None:
    """Sample until SIGTERM."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    url = load_settings().database.url.get_secret_value()
    seen: dict[int, int] = {}
    with Writer(path) as history:
        while not stopping.wait(EVERY_S):
            try:
                _sample_until_error(url, history, seen, stopping)
            except psycopg.Error:
                continue  # the server was killed, stopped or is full; another connection will do


def _sample_until_error(url: str, history: Writer, seen: dict[int, int], stopping: threading.Event) -> None:
    with psycopg.connect(url, autocommit=True, connect_timeout=5, application_name="poller") as connection:
        connection.execute("SELECT set_config('statement_timeout', %s, false)", (str(QUERY_TIMEOUT_MS),))
        while not stopping.wait(EVERY_S):
            _sample(connection, history, seen)


def _sample(connection: psycopg.Connection[Any], history: Writer, seen: dict[int, int]) -> None:
    """Note versions that changed since the last sample, and rows that show half a transfer."""
    rows = connection.execute("SELECT id, versions[1] FROM fault_registers").fetchall()
    changed = {key: version for key, version in rows if version is not None and seen.get(key) != version}
    torn = connection.execute("SELECT id FROM fault_accounts WHERE payer + payee <> 0").fetchall()
    seen.update(changed)
    if changed or torn:
        history.sample(changed, [key for (key,) in torn])

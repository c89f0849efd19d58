"""W12: audits that repair, one after the other, some of them killed; and an intruder who edits rows by hand.

They audit all that is written behind, the unique rows now and then. An audit may fail when a server is away, but what
it finds must be the intruder's doing, or a write whose caller was not told that it succeeded.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path
from typing import Any, Final

import psycopg

from tests.faults.auditing import AUDIT, CONFIRM_S, PLANT, audit
from tests.faults.entities import ENTITIES, Unit
from tests.faults.histories import Outcome, Writer
from writebehind.producer import load_settings
from writebehind.shared.declaration import declaration_of
from writebehind.shared.strategy import WriteBehind

KILLED: Final = 0.3  # share of the audits
PLANTED: Final = 3  # rows at a time
PAUSE_S: Final = 1.0
_OUTCOMES: Final = {0: Outcome.OK, 1: Outcome.OK, 2: Outcome.FAIL}  # in sync, drift, a server was away


def audit_again_and_again(path: Path, seed: int) -> None:
    """Until SIGTERM."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    chance = random.Random(seed)
    declared = [(cls, declaration_of(cls)) for cls in ENTITIES]
    small = [d.name for cls, d in declared if cls is not Unit and isinstance(d.strategy, WriteBehind)]
    rounds: list[list[str]] = [small, small, [declaration_of(Unit).name, "--sample", "10%"]]
    with Writer(path) as history:
        while not stopping.wait(PAUSE_S):
            _plant(history)
            kill_after_s = chance.uniform(2, CONFIRM_S + 10) if chance.random() < KILLED else None
            _audit(history, [*rounds[0], "--resume", "--confirm", str(CONFIRM_S)], kill_after_s, stopping)
            rounds.append(rounds.pop(0))


def _audit(history: Writer, options: list[str], kill_after_s: float | None, stopping: threading.Event) -> None:
    number = history.invoke(AUDIT, [(0, {})])
    limit = {} if kill_after_s is None else {"kill_after_s": kill_after_s}
    done = audit(dict(os.environ), options, stopping=stopping, **limit)
    outcome = _OUTCOMES.get(done.code, Outcome.UNKNOWN)
    history.end(number, [(outcome, None)], code=done.code, said=done.said)
    if outcome is Outcome.UNKNOWN and done.code >= 0:  # else its time was over, or ours
        history.unexpected(f"audit ended with {done.code}: {done.said}")


def _plant(history: Writer) -> None:
    """Edit rows whose entries may be cached, in a column that nobody writes."""
    url = load_settings().database.url.get_secret_value()
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            connection.execute("SET statement_timeout = '5s'")
            _plant_with(connection, history)
    except psycopg.Error:
        pass  # the history has it as unknown


def _plant_with(connection: psycopg.Connection[Any], history: Writer) -> None:
    select = "SELECT id FROM fault_sessions ORDER BY random() LIMIT %s"
    keys = [key for (key,) in connection.execute(select, (PLANTED,))]
    number = history.invoke(PLANT, [(key, {}) for key in keys])
    connection.execute("UPDATE fault_sessions SET note = COALESCE(note, 0) + 1 WHERE id = ANY(%s)", (keys,))
    history.end(number, [(Outcome.OK, None)] * len(keys))

"""The least that a flusher must do, by three threads that do nothing else: about the most that this machine allows."""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import redis

from writebehind.flusher.cache import KEYS_PER_CALL, evaluate_each
from writebehind.flusher.database import connect
from writebehind.shared import naming
from writebehind.shared.fold import Settlement
from writebehind.shared.scripts import Call, EntityScripts

from .load import Load
from .raw import batches_of, commit, consumed, merging

AHEAD = 2  # batches that are consumed and not written, and that are written and not settled
PATIENCE_S = 60.0  # for another thread, which may have failed


def pipeline(load: Load, bootstrap_servers: str, url: str, cache: str, *, batch_rows: int) -> float:
    """Records/s, from the first message consumed to the last row committed.

    One thread consumes, and looks at no message; one writes ready arrays by the flusher's own statement; one sends the
    calls that settle the entries, which are ready too. Nothing is decoded, folded, fenced or checked.
    """
    rows = load.rows()
    batches = batches_of(load, rows, batch_rows)
    calls = [_settling(load, batch.settlement) for batch in batches]
    merge = merging(load)
    read: queue.Queue[None] = queue.Queue(AHEAD)
    committed: queue.Queue[Sequence[Call]] = queue.Queue(AHEAD)

    def consume() -> float:
        seen = given = 0
        began = 0.0
        for count in consumed(load, bootstrap_servers):
            began = began or time.perf_counter()
            seen += count
            while given < len(batches) and seen >= min((given + 1) * batch_rows, len(rows)):
                read.put(None, timeout=PATIENCE_S)
                given += 1
        return began

    def write() -> float:
        ended = 0.0
        with connect(url, name="bench bare", statement_timeout_s=60, lock_timeout_s=60) as connection:
            for batch, settling in zip(batches, calls, strict=True):
                read.get(timeout=PATIENCE_S)
                commit(connection, merge, batch)
                ended = time.perf_counter()
                committed.put(settling, timeout=PATIENCE_S)
        return ended

    def settle() -> None:
        with redis.Redis.from_url(cache) as client:
            for _ in batches:
                for _ in evaluate_each(client, committed.get(timeout=PATIENCE_S)):
                    pass

    with ThreadPoolExecutor(3) as pool:
        began, ended, settled = pool.submit(consume), pool.submit(write), pool.submit(settle)
    settled.result()
    return len(rows) / (ended.result() - began.result())


def _settling(load: Load, settlement: Settlement) -> list[Call]:
    scripts = EntityScripts(load.declaration)
    return [
        scripts.settle(naming.cache_keys("wb", load.declaration.name, part.keys), part)
        for part in settlement.parts(KEYS_PER_CALL)
    ]

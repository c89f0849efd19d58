"""What an audit at its default rate costs a flusher that is busy: its rate over the same records, without and with one.

The difference is small against what a run differs from the next, so runs come in pairs, the order within a pair
changes, and the median of the pairs' ratios is what counts. The audit's own CPU time does not depend on luck.
"""

from __future__ import annotations

import random
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.integration.audit_world import start_alone
from tests.integration.flusher_entities import Counter
from tests.integration.flusher_process import TIMEOUT_S
from tests.integration.flusher_world import World
from writebehind.shared.declaration import declaration_of
from writebehind.shared.record import Codec

from .flusher_process import cpu_s
from .load import FIRST_VERSION, produce

FIRST_KEY = 2_000_000_000  # rows of the backlog; they are not cached
RECORDS_PER_ROW = 5
DEADLINE_S = 600.0


@dataclass
class Beside:
    """What the audit used: seconds of CPU and of the clock."""

    cpu_s: float = 0.0
    wall_s: float = 0.0


def measure(w: World, records: int, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The ratio of the flusher's rates with and without an audit, and the share of a CPU that the audit takes."""
    say(f"putting {records:,} records on the topic")
    _backlog(w, records)
    _rate(w, records)  # inserts; all others update
    ratios: list[float] = []
    used = Beside()
    for number in range(rounds):
        rates: dict[bool, float] = {}
        for audited in (False, True) if number % 2 else (True, False):
            if audited:
                with _audit(w, used):
                    rates[True] = _rate(w, records)
            else:
                rates[False] = _rate(w, records)
        ratios.append(rates[True] / rates[False])
        say(f"flusher {rates[False]:,.0f} records/s, beside an audit {rates[True]:,.0f}/s, ratio {ratios[-1]:.3f}")
    return {
        "flusher_rate_beside_audit": round(statistics.median(ratios), 3),
        "flusher_rate_pairs": [round(ratio, 3) for ratio in ratios],
        "audit_cpu_share": round(used.cpu_s / used.wall_s, 3),
    }


def _backlog(w: World, records: int) -> None:
    declaration = declaration_of(Counter)
    codec, chance = Codec(declaration), random.Random(20130101)
    keys = chance.choices(range(FIRST_KEY, FIRST_KEY + records // RECORDS_PER_ROW), k=records)
    produce(
        w.corner.bootstrap_servers,
        w.topic(Counter),
        (
            (codec.encode(version, 0, (key,), [(0, 1), (1, version % 1000), (3, f"n{version}")]), str(key))
            for version, key in enumerate(keys, FIRST_VERSION)
        ),
    )


def _rate(w: World, records: int) -> float:
    """Records per second of a flusher that begins at the topic's begin, from its first commit to its last."""
    w.execute(f'UPDATE "{w.corner.bookkeeping_schema}".progress SET next_offset = 0, settled_offset = NULL')
    flusher = w.flusher()
    deadline = time.monotonic() + DEADLINE_S
    first, began, done = 0, 0.0, 0
    with w.connect() as connection:
        query = f'SELECT COALESCE(sum(next_offset), 0) FROM "{w.corner.bookkeeping_schema}".progress'
        while done < records:
            row = connection.execute(query.encode()).fetchone()
            done = int(row[0]) if row else 0
            if done and not first:
                first, began = done, time.perf_counter()
            flusher.check()
            if time.monotonic() > deadline:
                raise RuntimeError("the flusher hung before it was done")
            time.sleep(0.005)
    took_s = time.perf_counter() - began
    flusher.stop()
    if first > records // 2:
        raise RuntimeError(f"{records:,} records are too few to measure a rate")
    return (records - first) / took_s


@contextmanager
def _audit(w: World, used: Beside) -> Iterator[None]:
    """An audit at its default rate that goes on for the whole block."""
    before = _compared(w)
    with start_alone(w, "audit", "--watch", "--interval", "0") as process:
        try:
            w.wait(lambda: process.poll() is not None or _compared(w) > before, "the audit to be under way")
            cpu, began = cpu_s(process.pid), time.monotonic()
            yield
            used.cpu_s += cpu_s(process.pid) - cpu
            used.wall_s += time.monotonic() - began
        finally:
            ended = process.poll()
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=TIMEOUT_S)
    if ended is not None:
        raise RuntimeError(f"the audit ended by itself: {err}")


def _compared(w: World) -> int:
    rows = w.query("SELECT COALESCE(sum((entities #>> '{{counter,compared}}')::int8), 0)::int8 FROM {}.audit_run")
    return int(rows[0][0])

"""The drift audit against what reading the same data bare takes: `make bench-audit`.

Bare is SCAN, pipelined HGETALL and SELECT … = ANY, with the same clients and nothing compared. Both read the same
entries and rows in turn; the audit runs as its own process. Then a flusher's rate is measured without and with an
audit beside it. At last drift of every kind is planted among live writes, which also change what is in sync.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.integration.audit_drift import edit_rows, in_sync, plant_all
from tests.integration.audit_world import LIVE_KEYS, findings, live_writes, start_alone
from tests.integration.flusher_entities import Counter
from tests.integration.flusher_world import World, world
from tests.integration.letters_world import Letters
from writebehind.embedded import Stack
from writebehind.embedded.isolation import isolated
from writebehind.shared.utc import register

from . import audit_load
from .world import arguments, speaker

FIRST_KEY = LIVE_KEYS  # those below are written all the time
EDITED_KEY = 3_000_000_000  # rows from here on are edited while the audit runs
PAGE_KEYS = 1_000


def main() -> int:
    args = arguments(
        __doc__,
        keys=(int, 1_000_000, "cached rows"),
        rounds=(int, 3, "bare and audit in turn, medians are reported; 0: not measured"),
        planted=(int, 100, "drifted entries of each of the eleven kinds; 0: not searched for"),
        records=(int, 1_000_000, "records that the flusher brings to the database with and without an audit"),
        pairs=(int, 5, "of flushers without and with an audit; 0: not measured"),
    )
    if args.quick:
        args.keys, args.planted, args.records = 50_000, 10, 200_000
        args.rounds, args.pairs = min(args.rounds, 1), min(args.pairs, 1)
    say = speaker(args)
    with ExitStack() as stack:
        servers = stack.enter_context(Stack())
        corner = stack.enter_context(isolated(servers.env(), label="bench_audit"))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        w = stack.enter_context(world(corner, folder, Counter, plain=True))
        say(f"filling {args.keys:,} rows and entries")
        in_sync(w, FIRST_KEY, args.keys)
        w.execute("VACUUM ANALYZE counters")
        speed = measure(w, args.keys, args.rounds, say) if args.rounds else {}
        load = audit_load.measure(w, args.records, args.pairs, say) if args.pairs else {}
        found = search(w, args.keys, args.planted, say) if args.planted else {}
        print(json.dumps({**speed, **found, **load}))
    return 0


def measure(w: World, keys: int, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Keys per second of both, their ratio, and the audit's memory."""
    rates: list[float] = []
    ratios: list[float] = []
    rss_mib = 0.0
    for _ in range(rounds):
        bare = keys / _bare(w, keys)
        told, peak_mib = _audit(w)
        assert told["drift"] == 0, told
        assert told["compared"] == keys, told
        rates.append(keys / told["seconds"])
        ratios.append(rates[-1] / bare)
        rss_mib = max(rss_mib, peak_mib)
        say(f"bare {bare:,.0f} keys/s, audit {rates[-1]:,.0f} keys/s, ratio {ratios[-1]:.2f}, {peak_mib:.0f} MiB")
    return {
        "keys_per_s": round(statistics.median(rates)),
        "ratio_to_bare": round(statistics.median(ratios), 2),
        "rss_mib": round(rss_mib),
    }


def search(w: World, keys: int, each: int, say: Callable[[str], None]) -> dict[str, Any]:
    """How much of the planted drift two passes among live writes find, and what else they call drift.

    Half of the writes are of any of the entries that are compared, so that all of them are in motion.
    """
    w.flusher()
    in_sync(w, EDITED_KEY, each)
    with live_writes(w, spread=range(FIRST_KEY, FIRST_KEY + keys)) as live:
        planted = plant_all(w, Letters(w), each)
        found: dict[str, str] = {}
        compared = 0
        began, before = time.monotonic(), live.writes
        for number in range(2):
            told, _peak = _audit(w, None if number else lambda: planted.update(edit_rows(w, EDITED_KEY, each)))
            found |= findings(w, told["run"])
            compared += told["compared"]
            say(f"pass among live writes: {told['compared']:,} compared, {told['drift']:,} drifted")
        writes_per_s = (live.writes - before) / (time.monotonic() - began)
    right = sum(found.get(key) in verdicts for key, verdicts in planted.items())
    return {
        "false_alarms": len(found.keys() - planted.keys()),
        "planted_found": f"{right}/{len(planted)}",
        "compared_among_writes": compared,
        "writes_per_s_meanwhile": round(writes_per_s),
    }


def _bare(w: World, keys: int) -> float:
    """Seconds to read every entry and its row."""
    import redis

    client = redis.Redis.from_url(w.corner.cache_url)
    began, seen, cursor = time.perf_counter(), 0, 0
    with w.connect() as connection:
        register(connection)
        while True:
            reply: Any = client.scan(cursor, match=f"{w.corner.cache_prefix}:*", count=PAGE_KEYS)
            cursor, names = int(reply[0]), reply[1]
            with client.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.hgetall(name)
                pipeline.execute()
            ids = [int(name.rpartition(b":")[2][:-1]) for name in names]
            query = "SELECT id, hits, high, low, note, versions FROM counters WHERE id = ANY(%s)"
            seen += len(connection.execute(query, (ids,), binary=True).fetchall())
            if cursor == 0:
                break
    client.close()
    assert seen == keys, f"{seen} rows of {keys}"
    return time.perf_counter() - began


def _audit(w: World, meanwhile: Callable[[], None] | None = None) -> tuple[dict[str, Any], float]:
    """The audit's result, and its peak memory in MiB. `meanwhile` is done when it has begun to compare."""
    runs = w.query("SELECT count(*) FROM {}.audit_run")
    process = start_alone(w, "audit", "--keys-per-second", "0", "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    if meanwhile is not None:
        w.wait(lambda: w.query("SELECT count(*) FROM {}.audit_run") != runs, "the audit to begin")
        meanwhile()
    out, err = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode in (0, 1), err
    told: dict[str, Any] = json.loads(out)
    return told, usage.ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())

"""The audit while servers restart or lose everything, and on servers that it must not audit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.audit_drift import in_sync
from tests.integration.audit_world import findings, run, start
from tests.integration.flusher_entities import Counter
from tests.integration.flusher_process import TIMEOUT_S
from tests.integration.flusher_world import World, world, writing
from tests.integration.guarded import Guarded
from writebehind.embedded import Stack

SLOW = ("--keys-per-second", "1000", "--confirm", "1", "--json")


def compared(w: World) -> int:
    rows = w.query("SELECT COALESCE(max((entities #>> '{{counter,compared}}')::int), 0) FROM {}.audit_run")
    return int(rows[0][0])


def test_restarts_and_a_flushall_during_a_run_are_no_drift(breakable_stack: Guarded, tmp_path: Path) -> None:
    with breakable_stack.corner() as corner, world(corner, tmp_path, Counter) as w:
        in_sync(w, 1_000, 4_000)
        w.flusher()
        with writing(w, Counter), start(w, "audit", *SLOW) as process:
            try:
                w.wait(lambda: compared(w) >= 500, "the audit to be under way")
                w.cache.flushall()
                in_sync(w, 10_000, 4_000)
                breakable_stack.postgres.kill()
                breakable_stack.postgres.start()
                breakable_stack.postgres.wait_ready()
                breakable_stack.valkey.kill()  # it comes back empty, as another process
                breakable_stack.valkey.start()
                breakable_stack.valkey.wait_ready()
                in_sync(w, 20_000, 2_000)
                _, err = process.communicate(timeout=2 * TIMEOUT_S)
            finally:
                process.kill()
        assert (process.returncode, err) == (0, "")
        assert findings(w, 1) == {}


def test_a_replica_is_refused(breakable_stack: Guarded, tmp_path: Path) -> None:
    with breakable_stack.corner() as corner, world(corner, tmp_path, Counter) as w:
        in_sync(w, 1, 10)
        w.execute("UPDATE counters SET hits = 6 WHERE id = 3")
        with standby(breakable_stack):
            ran = run(w, "audit", "--repair", "auto", "--apply")
        assert (ran.code, ran.out) == (2, "")
        assert "this database is a replica" in ran.err
        assert w.hash(Counter, 3)["hits"] == "5", "nothing was repaired"


@contextmanager
def standby(stack: Stack) -> Iterator[None]:
    """The server in recovery, as a standby is, for the block."""
    signal = stack.postgres._data / "standby.signal"
    stack.postgres.stop()
    signal.touch()
    signal.chmod(0o644)
    try:
        stack.postgres.start()
        stack.postgres.wait_ready()
        yield
    finally:
        stack.postgres.stop()
        signal.unlink()
        stack.postgres.start()
        stack.postgres.wait_ready()

"""The audit while servers restart or lose everything, and on servers that it must not audit."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.faults.proxy import Moment
from tests.faults.wire import Postgres
from tests.integration.audit_drift import in_sync
from tests.integration.audit_world import findings, run, start
from tests.integration.flusher_entities import Counter
from tests.integration.flusher_process import TIMEOUT_S
from tests.integration.flusher_world import World, world, writing
from tests.integration.guarded import Guarded
from writebehind.embedded import Isolation, Stack
from writebehind.flusher.audit.outage import OUTAGE_S
from writebehind.flusher.audit.run import SAVE_EVERY_S
from writebehind.flusher.audit.store import Store
from writebehind.shared.settings import DatabaseSettings

SLOW = ("--keys-per-second", "1000", "--confirm", "1", "--json")


def compared(w: World) -> int:
    rows = w.query("SELECT COALESCE(max((entities #>> '{{counter,compared}}')::int), 0) FROM {}.audit_run")
    return int(rows[0][0])


def stands(w: World) -> bool:
    """Whether it saves nothing new, for longer than it takes to save what there is."""
    before = compared(w)
    time.sleep(3 * SAVE_EVERY_S)
    return compared(w) == before


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


@pytest.mark.parametrize("outage", ["kill", "pause"])
@pytest.mark.parametrize("name", ["postgres", "valkey"])
def test_one_that_is_told_to_stop_waits_for_nobody_and_another_goes_on_from_there(
    breakable_stack: Guarded, tmp_path: Path, name: str, outage: str
) -> None:
    server = getattr(breakable_stack, name)
    with breakable_stack.corner() as corner, world(corner, tmp_path, Counter) as w:
        in_sync(w, 1_000, 6_000)
        with start(w, "audit", *SLOW, WRITEBEHIND_DATABASE__STALL_TIMEOUT_S="1") as process:
            try:
                w.wait(lambda: compared(w) >= 500, "the audit to be under way")
                getattr(server, outage)()
                if name == "valkey":
                    w.wait(lambda: stands(w), "the audit to wait for the cache")
                process.terminate()
                _, err = process.communicate(timeout=TIMEOUT_S)
            finally:
                process.kill()
                if outage == "pause":
                    server.resume()
                else:
                    server.start()
                    server.wait_ready()
        assert (process.returncode, OUTAGE_S > TIMEOUT_S) == (2, True)
        assert (
            "error: the database cannot be used" if name == "postgres" else "error: the cache does not answer"
        ) in err
        assert "the same command with --resume" in err
        in_sync(w, 10_000, 1_000)  # a cache that was killed is empty
        ran = run(w, "audit", "--resume", "--keys-per-second", "0", "--json")
        told = json.loads(ran.out)
        assert (ran.code, told["run"], told["finished"], told["drift"]) == (0, 1, True, 0)


def test_a_second_signal_ends_it_whatever_it_waits_for(breakable_stack: Guarded, tmp_path: Path) -> None:
    postgres = breakable_stack.postgres
    with breakable_stack.corner() as corner, world(corner, tmp_path, Counter) as w:
        in_sync(w, 1_000, 6_000)
        with start(w, "audit", *SLOW, WRITEBEHIND_DATABASE__STALL_TIMEOUT_S="1000") as process:
            try:
                w.wait(lambda: compared(w) >= 500, "the audit to be under way")
                postgres.pause()
                for _ in range(2):
                    process.terminate()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(5)  # the first has been seen by then
                assert process.wait(TIMEOUT_S) == -signal.SIGTERM
            finally:
                process.kill()
                postgres.resume()


def test_an_answer_of_the_database_that_is_lost_is_asked_for_again(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    found = threading.Event()
    with world(writebehind_isolated, tmp_path, Counter) as w, w.database_proxy(Postgres) as proxy:
        url = w.through(database=proxy)["WRITEBEHIND_DATABASE__URL"]
        store = Store(DatabaseSettings.model_validate({"url": url, "stall_timeout_s": 1}), "test", threading.Event())
        with closing(store):
            trap = proxy.trap("SELECT 'lost'", Moment.BEFORE_REPLY, lambda: found.wait(2 * TIMEOUT_S))
            try:
                assert store.run(lambda c: c.execute("SELECT 'lost'").fetchone()) == ("lost",)
            finally:
                found.set()
        assert trap.hit.wait(TIMEOUT_S)


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

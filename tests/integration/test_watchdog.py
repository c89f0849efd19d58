"""A database that stalls on open connections: the flusher lets go of them, and goes on by itself once it can."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.proxy import Moment
from tests.faults.wire import Postgres
from tests.integration.flusher_entities import Counter, Item
from tests.integration.flusher_process import TIMEOUT_S
from tests.integration.flusher_world import World, world
from tests.integration.guarded import Guarded, through
from writebehind.embedded.isolation import Isolation
from writebehind.flusher.watchdog import Answer, ask

RECOVERY_S = 30.0  # what is promised after the server's return
STALL = {"WRITEBEHIND_DATABASE__STALL_TIMEOUT_S": "1"}
CUT = "the connection is cut"


def hold_up(w: World, request: str, answer: Answer, meanwhile: Callable[[], object] = bool) -> None:
    """The reply to a request is lost on its way to the flusher; other connections pass. It must recover by itself."""
    over = threading.Event()

    def lose() -> None:
        meanwhile()
        over.wait(2 * TIMEOUT_S)

    with w.database_proxy(Postgres) as proxy:
        flusher = w.flusher(**w.through(database=proxy), **STALL)
        flusher.wait_ready()
        w.load(Counter, 100)
        w.wait_flushed()
        trap = proxy.trap(request, Moment.BEFORE_REPLY, lose)
        try:
            w.load(Counter, 100, seed=2)
            flusher.wait_log(f"({answer}): the connection is cut")
            w.wait_flushed()
            w.check()
            flusher.stop()
        finally:
            over.set()
        assert trap.hit.wait(TIMEOUT_S)


def test_a_stopped_server_is_let_go_of_and_the_flusher_goes_on_when_it_returns(
    breakable_stack: Guarded, tmp_path: Path
) -> None:
    postgres = breakable_stack.postgres
    with breakable_stack.corner() as corner, world(corner, tmp_path, Counter, Item) as w:
        flusher, other = w.flusher(**STALL).wait_ready(), w.flusher(**STALL).wait_ready()
        w.load(Counter, 200)
        w.put(Item, 1, title="one", stock=1)
        w.wait_flushed()
        try:
            # A table that is locked keeps batches in the database until it stops.
            with w.connect() as blocker, blocker.transaction():
                blocker.execute("LOCK TABLE counters, items")
                w.load(Counter, 200, seed=2)
                w.put(Item, 1, title="two", stock=1)
                w.send()
                w.wait(lambda: _waiting(w) >= 2, "a batch of each entity to be in the database")
                postgres.pause()
                flusher.wait_log(Answer.SILENT)
                other.stop()  # whatever of it hangs in the database
                postgres.resume()
        finally:
            postgres.resume()
        back = time.monotonic()
        w.wait_flushed()
        assert time.monotonic() - back < RECOVERY_S
        w.check()
        flusher.stop()


def test_a_reply_that_was_lost_on_an_open_connection(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        hold_up(w, "COMMIT", Answer.IDLE)


def test_a_session_that_the_server_has_lost(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
        hold_up(w, "COMMIT", Answer.GONE, lambda: w.query(end, "writebehind-flusher counter"))


def test_a_statement_that_takes_long_is_not_cut(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        flusher = w.flusher(WRITEBEHIND_DATABASE__LOCK_TIMEOUT_S="30", **STALL).wait_ready()
        w.load(Counter, 100)
        w.wait_flushed()
        with w.connect() as blocker, blocker.transaction():
            blocker.execute("LOCK TABLE counters")
            w.load(Counter, 100, seed=2)
            w.wait(lambda: _waiting(w), "a batch to be in the database")
            flusher.wait_log(Answer.BUSY)
        w.wait_flushed()
        w.check()
        assert CUT not in flusher.log
        assert "trying again" not in flusher.log
        flusher.stop()


def test_what_the_server_says_of_a_backend(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    url = writebehind_isolated.database_url
    with world(writebehind_isolated, tmp_path, Counter) as w, w.connect() as idle, w.connect() as busy:
        pids = [connection.info.backend_pid for connection in (idle, busy)]
        with idle.transaction():
            idle.execute("LOCK TABLE counters")
            waiter = threading.Thread(target=busy.execute, args=("SELECT FROM counters",), daemon=True)
            waiter.start()
            w.wait(lambda: _waiting(w), "the other to wait for the lock")
            w.wait(lambda: ask(url, pids)[pids[0]] is Answer.IDLE, "the first to be idle for longer than a pause")
            assert ask(url, [*pids, 1]) == {pids[0]: Answer.IDLE, pids[1]: Answer.BUSY, 1: Answer.GONE}
        waiter.join(TIMEOUT_S)
        with w.database_proxy() as proxy:
            stalled = through(url, proxy.port)
            proxy.to_client.stall()
            assert ask(stalled, pids) == dict.fromkeys(pids, Answer.SILENT)
            proxy.to_client.flow()
            proxy.refusing = True
            assert ask(stalled, pids) == dict.fromkeys(pids, Answer.REFUSED)


def _waiting(w: World) -> int:
    """For how many of this world's tables a session waits for the lock."""
    query = (
        "SELECT count(DISTINCT l.relation) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n"
        " ON n.oid = c.relnamespace WHERE NOT l.granted AND n.nspname = %s"
    )
    return int(w.query(query, w.corner.schema)[0][0])

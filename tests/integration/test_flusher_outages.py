"""Servers that are killed, restarted or wiped under a running flusher: it goes on by itself, and totals are exact."""

from __future__ import annotations

from pathlib import Path

from tests.integration.flusher_entities import Counter, Town
from tests.integration.flusher_producer import client, settled, shown
from tests.integration.flusher_world import world, writing
from tests.integration.guarded import Guarded


def test_database_and_broker_restarts_while_records_flow(breakable_stack: Guarded, tmp_path: Path) -> None:
    stack = breakable_stack
    with stack.corner() as corner, world(corner, tmp_path, Counter) as w:
        flusher = w.flusher().wait_ready()
        with writing(w, Counter):
            for server in (stack.postgres, stack.kafka):
                w.wait_moving(Counter)
                server.kill()
                server.start()
            w.wait_moving(Counter)
            stack.postgres.restart()  # in order: sessions are told
            w.wait_moving(Counter)
            stack.postgres.kill()  # both at once
            stack.kafka.kill()
            stack.kafka.start()
            stack.postgres.start()
            w.wait_moving(Counter)
        w.wait_flushed()
        w.check()
        assert "stopped" not in flusher.log
        flusher.stop()


def test_a_flusher_started_before_its_database_waits_for_it(breakable_stack: Guarded, tmp_path: Path) -> None:
    with breakable_stack.corner() as corner, world(corner, tmp_path, Counter) as w:
        w.load(Counter, 100)
        breakable_stack.postgres.kill()
        flusher, stopped = w.flusher(), w.flusher()
        for one in (flusher, stopped):
            one.wait_log("waiting: the database cannot be reached")
        stopped.stop()
        breakable_stack.postgres.start()
        w.wait_flushed()
        w.check()
        flusher.stop()


def test_cache_restarts_and_flushall_while_a_producer_writes(breakable_stack: Guarded, tmp_path: Path) -> None:
    stack = breakable_stack
    with stack.corner() as corner, world(corner, tmp_path, Counter) as w, client(w) as c:
        w.flusher().wait_ready()
        total = dict.fromkeys(range(10), 0)

        def write(rounds: int) -> None:
            for number in range(rounds):
                c.update_many(Counter, [(key, {"hits": 1, "high": number, "note": f"{number}"}) for key in total])
                for key in total:
                    total[key] += 1

        write(20)
        w.cache.flushall()
        write(20)
        stack.valkey.kill()
        write(20)  # without a cache
        stack.valkey.start()
        write(20)
        w.cache.flushall()
        stack.valkey.restart()
        write(20)
        w.wait_flushed()
        assert {key: row["hits"] for (key,), row in w.rows(Counter).items()} == total
        # Once nothing is pending, what is cached equals the row.
        w.wait(lambda: settled(w, Counter, total), "every entry to be settled")
        assert {key: shown(c, key).hits for key in total} == total


def test_one_topic_waits_for_a_lock_while_others_go_on(breakable_stack: Guarded, tmp_path: Path) -> None:
    with breakable_stack.corner() as corner, world(corner, tmp_path, Counter, Town) as w:
        flusher = w.flusher(WRITEBEHIND_DATABASE__LOCK_TIMEOUT_S="0.5").wait_ready()
        with w.connect() as blocker, blocker.transaction():
            blocker.execute("LOCK TABLE towns")
            w.put(Town, ("NL", "Delft"), paid=1)
            w.load(Counter, 100)
            w.wait_flushed(Counter)
            flusher.wait_log("trying again")
            w.load(Counter, 100, seed=2)
            w.wait_flushed(Counter)
            assert not any(w.progress(Town).values())
        w.wait_flushed()
        w.check()
        flusher.stop()

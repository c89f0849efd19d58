"""SIGTERM ends the flusher with 0 within what it promises, whatever it does; what was not flushed comes later."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka.cimpl import NewTopic

from tests.faults.proxy import Moment
from tests.faults.wire import Postgres
from tests.integration.flusher_entities import Counter, Strict
from tests.integration.flusher_letters import posted, put_bad
from tests.integration.flusher_process import STOP_TIMEOUT_S, TIMEOUT_S, Flusher, wait_until
from tests.integration.flusher_world import World, world
from tests.integration.guarded import Guarded
from writebehind.embedded.isolation import Isolation
from writebehind.embedded.server import Server
from writebehind.flusher.gap import BY_HAND
from writebehind.shared import naming

PATIENT = {  # nothing but a second signal ends it early
    "WRITEBEHIND_FLUSHER__SHUTDOWN_TIMEOUT_S": "300",
    "WRITEBEHIND_DATABASE__LOCK_TIMEOUT_S": "300",
    "WRITEBEHIND_DATABASE__STATEMENT_TIMEOUT_S": "300",
}


@contextmanager
def locked(w: World) -> Iterator[None]:
    """Somebody else holds the table, and the flusher waits for it in the middle of a batch."""
    with w.connect() as blocker, blocker.transaction():
        blocker.execute("LOCK TABLE counters")
        w.load(Counter, 100)
        waiting = (
            "SELECT FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE NOT l.granted AND n.nspname = %s"
        )
        w.wait(lambda: w.query(waiting, w.corner.schema), "the flusher to wait for the lock")
        yield


@contextmanager
def frozen(server: Server) -> Iterator[Callable[[], None]]:
    """Gives what freezes the server; it is thawed at the end."""
    try:
        yield server.pause
    finally:
        server.resume()
        server.wait_ready()


def end(flusher: Flusher, signals: int) -> None:
    """It must stop within its bound after one signal, or at once after a second one."""
    if signals == 2:
        flusher.terminate()
        flusher.wait_log("stopping")
    flusher.stop()


def is_knocked_at(port: int) -> bool:
    """Whether a connection waits to be accepted there."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, queues, *_ = line.split()
        if state == "0A" and local.endswith(f":{port:04X}"):  # listening; its receive queue is the connections
            return not queues.endswith(":00000000")
    return False


def finish(w: World) -> None:
    """Another flusher does the rest, in a group of its own: the first may have left without a word."""
    last = w.flusher(WRITEBEHIND_FLUSHER__GROUP=f"{w.corner.group}-last")
    w.wait_flushed()
    w.check()
    last.stop()


def test_while_idle_and_with_workers(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        single, several = w.flusher().wait_ready(), w.flusher("--workers", "2")
        several.wait_log("assigned", count=2)
        w.load(Counter, 100)
        w.wait_flushed()
        single.stop()
        several.stop()
        w.check()


def test_while_a_statement_waits(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        flusher = w.flusher().wait_ready()
        with locked(w):
            flusher.stop()
            assert not any(w.progress(Counter).values())
        finish(w)


def test_a_second_signal_ends_it_at_once(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        flusher = w.flusher(**PATIENT).wait_ready()
        with locked(w):
            flusher.terminate()
            flusher.wait_log("stopping")
            flusher.stop()
        finish(w)


def test_while_it_backs_off(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w, w.database_proxy(Postgres) as proxy:
        slow = {"WRITEBEHIND_FLUSHER__RETRY_DELAY_MIN_S": "250", "WRITEBEHIND_FLUSHER__RETRY_DELAY_MAX_S": "300"}
        flusher = w.flusher(**w.through(database=proxy), **slow).wait_ready()
        w.load(Counter, 10)
        w.wait_flushed()  # a claim that is cut would wait as long
        proxy.refusing = True
        proxy.reset()
        w.load(Counter, 100)
        flusher.wait_log("the database is not available")
        flusher.stop()
        finish(w)


def test_with_a_database_that_does_not_answer(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w, w.database_proxy(Postgres) as proxy:
        flusher = w.flusher(**w.through(database=proxy)).wait_ready()
        w.load(Counter, 10)
        w.wait_flushed()
        proxy.to_client.stall()
        begun = proxy.trap("BEGIN", Moment.AFTER_REQUEST)
        w.load(Counter, 100)
        w.wait(begun.hit.is_set, "a batch to be on its way")
        flusher.stop()
        proxy.to_client.flow()
        finish(w)


def test_while_it_writes_letters(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Strict) as w, w.database_proxy(Postgres) as proxy:
        flusher = w.flusher(**w.through(database=proxy), **PATIENT).wait_ready()
        w.put(Strict, 1, partition=0, amount=1)
        w.wait_flushed()
        # For a topic that is not there, librdkafka keeps the letter and gives no answer for as long as it has time.
        topic = naming.dead_letter_topic(w.topic(Strict))
        w.admin.delete_topics([topic], operation_timeout=TIMEOUT_S)[topic].result(TIMEOUT_S)
        alone = proxy.trap("ROLLBACK", Moment.BEFORE_REPLY)  # the bad record stands alone: its letter is next
        put_bad(w, Strict, 3, partition=1, amount=-1)
        w.put(Strict, 2, partition=1, amount=1)  # not before the letter, in whichever batch
        w.send()
        w.wait(alone.hit.is_set, "a letter to be written")
        flusher.stop()
        assert w.rows(Strict).keys() == {(1,)}
        w.admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(TIMEOUT_S)
        finish(w)
        assert len(posted(w, Strict)) == 1


@pytest.mark.parametrize(("moment", "signals"), [("asks", 1), ("asks", 2), ("has cut", 1)])
def test_while_the_watchdog_deals_with_a_database_that_stands_still(
    breakable_stack: Guarded, tmp_path: Path, moment: str, signals: int
) -> None:
    with breakable_stack.corner() as corner, world(corner, tmp_path, Counter) as w:
        patience = PATIENT if signals == 2 else {}
        flusher = w.flusher(WRITEBEHIND_DATABASE__STALL_TIMEOUT_S="1", **patience).wait_ready()
        with locked(w), frozen(breakable_stack.postgres) as freeze:
            freeze()
            if moment == "asks":
                wait_until(lambda: is_knocked_at(w.database_port), "the watchdog to ask the database")
                assert "the connection is cut" not in flusher.log
            else:
                flusher.wait_log("the connection is cut")
            end(flusher, signals)
        finish(w)


def test_with_a_broker_that_does_not_answer(breakable_stack: Guarded, tmp_path: Path) -> None:
    with (
        breakable_stack.corner() as corner,
        world(corner, tmp_path, Counter) as w,
        frozen(breakable_stack.kafka) as freeze,
    ):
        flusher = w.flusher().wait_ready()
        w.load(Counter, 100)
        w.wait_flushed()
        freeze()
        flusher.stop()


def test_with_a_broker_it_has_never_reached(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w, socket.create_server(("127.0.0.1", 0)) as silent:
        servers = f"127.0.0.1:{silent.getsockname()[1]}"
        w.flusher(WRITEBEHIND_KAFKA__BOOTSTRAP_SERVERS=servers).wait_ready().stop()


@pytest.mark.parametrize("signals", [1, 2])
def test_while_it_claims_partitions_of_a_broker_that_does_not_answer(
    breakable_stack: Guarded, tmp_path: Path, signals: int
) -> None:
    with (
        breakable_stack.corner() as corner,
        world(corner, tmp_path, Counter) as w,
        w.database_proxy(Postgres) as proxy,
        frozen(breakable_stack.kafka) as freeze,
    ):
        flusher = w.flusher(**w.through(database=proxy), **(PATIENT if signals == 2 else {})).wait_ready()
        w.load(Counter, 100)
        w.wait_flushed()

        def move() -> None:
            table = f'"{corner.bookkeeping_schema}".progress'
            w.execute(f"UPDATE {table} SET owner = '{BY_HAND}test', owner_epoch = owner_epoch + 1")
            freeze()

        proxy.trap("SELECT topic, partition, topic_id", Moment.BEFORE_REQUEST, move)  # does progress stand as it did?
        flusher.wait_log(f"{BY_HAND}test")
        end(flusher, signals)


@pytest.mark.parametrize("signals", [1, 2])
def test_with_a_broker_that_is_not_told_how_far_we_are(breakable_stack: Guarded, tmp_path: Path, signals: int) -> None:
    with breakable_stack.corner() as corner, world(corner, tmp_path, Counter) as w:
        with frozen(breakable_stack.kafka) as freeze:
            flusher = w.flusher(**(PATIENT if signals == 2 else {"WRITEBEHIND_DATABASE__LOCK_TIMEOUT_S": "300"}))
            flusher.wait_ready()
            with locked(w):
                freeze()
                flusher.terminate()
                flusher.wait_log("stopping")
            flusher.wait_log("leaving the group")
            if signals == 2:
                flusher.stop()
            assert flusher.exit_code(STOP_TIMEOUT_S) == 0
            assert sum(w.progress(Counter).values()) > 0, "the batch that was in the database is committed"
        w.flusher()
        w.wait_flushed()  # what was not consumed yet comes later, and nothing comes twice
        w.check()


def test_before_it_has_started(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        flusher = w.flusher()
        flusher.terminate()
        assert flusher.exit_code(STOP_TIMEOUT_S) in (0, -15)  # nobody has told the signal where to go yet

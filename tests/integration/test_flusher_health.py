"""Health of a running flusher: what an outage, a broken table and a gap make of its probes, and that they mend."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path

from tests.integration.flusher_entities import Counter, Town
from tests.integration.flusher_process import Flusher
from tests.integration.flusher_world import World, world
from tests.integration.guarded import Guarded
from tests.integration.test_flusher_stops import expire
from writebehind.embedded.isolation import Isolation


def not_ready(flusher: Flusher) -> str:
    """What the flusher says is not ready, as one text; empty when it is."""
    status, body = flusher.ask("/readyz")
    found: list[str] = json.loads(body)["not_ready"]
    assert (status == 200) == (not found)
    return "\n".join(found)


def metric(flusher: Flusher, name: str, **labels: str) -> float | None:
    """The value of a series, None when there is none with these labels."""
    status, text = flusher.ask("/metrics")
    assert status == 200
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    for line in text.splitlines():
        if line.startswith((name + "{", name + " ")) and all(part in line for part in wanted):
            return float(line.rpartition(" ")[2])
    return None


def wait_ready(w: World, flusher: Flusher) -> None:
    w.wait(lambda: not not_ready(flusher), "the flusher to be ready")


def test_a_database_outage_fails_no_probe(breakable_stack: Guarded, tmp_path: Path) -> None:
    stack = breakable_stack
    with stack.corner() as corner, world(corner, tmp_path, Counter) as w:
        flusher = w.flusher()
        wait_ready(w, flusher)
        w.load(Counter, 100)
        w.wait_flushed()
        stack.postgres.kill()
        w.load(Counter, 100, seed=2)
        flusher.wait_log("the database is not available")
        for path in ("/livez", "/readyz", "/startupz"):
            assert flusher.ask(path)[0] == 200, path
        w.wait(
            lambda: metric(flusher, "writebehind_flusher_retries_total", writebehind_retry_class="transient"),
            "the retries to be counted",
        )
        stack.postgres.start()
        w.wait_flushed()
        assert flusher.ask("/livez")[0] == 200
        w.check()
        flusher.stop()


def test_a_dropped_table_stops_its_entity_alone_and_ready_comes_back_by_itself(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with world(writebehind_isolated, tmp_path, Counter, Town) as w:
        flusher = w.flusher()
        wait_ready(w, flusher)
        w.execute("ALTER TABLE towns RENAME TO gone")
        w.put(Town, ("NL", "Delft"), paid=1)
        w.send()
        w.wait(lambda: not_ready(flusher), "the flusher not to be ready")
        said = not_ready(flusher)
        assert w.topic(Town) in said
        assert "42P01" in said
        assert w.topic(Counter) not in said
        assert flusher.ask("/livez")[0] == 200
        labels = {"messaging_destination_name": w.topic(Town), "writebehind_cause": "systemic"}
        assert metric(flusher, "writebehind_flusher_stopped", **labels) == 1
        w.load(Counter, 100)
        w.wait_flushed(Counter)
        assert not any(w.progress(Town).values())

        w.execute("ALTER TABLE gone RENAME TO towns")
        wait_ready(w, flusher)
        w.wait_flushed()
        w.check()
        assert metric(flusher, "writebehind_flusher_stopped", **labels) == 0
        assert metric(flusher, "writebehind_flusher_stops_total", **labels) == 1
        assert flusher.log.count("refuses every batch") == 1
        flusher.stop()


def test_a_partition_that_is_stopped_is_named(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        w.load(Counter, 50)
        first = w.flusher().wait_ready()
        w.wait_flushed()
        first.stop()
        w.load(Counter, 50, seed=2)
        expire(w, Counter, 1, w.ends(Counter)[1])
        second = w.flusher()
        w.wait(lambda: "stopped" in not_ready(second), "the partition to be stopped")
        assert f"{w.topic(Counter)}[1]" in not_ready(second)
        assert "writebehind progress set" in not_ready(second)
        assert second.ask("/livez")[0] == 200
        cause = {"writebehind_cause": "partition"}
        assert metric(second, "writebehind_flusher_stopped", **cause) == 1
        second.stop()


def test_a_flusher_without_partitions_is_ready(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter, partitions=1) as w:
        flushers = [w.flusher(), w.flusher()]
        for flusher in flushers:
            wait_ready(w, flusher)
            assert flusher.ask("/startupz")[0] == 200
        for flusher in flushers:
            flusher.stop()


def test_silent_clients_delay_no_shutdown(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w, contextlib.ExitStack() as clients:
        flusher = w.flusher()
        wait_ready(w, flusher)
        for _ in range(5):
            clients.enter_context(socket.create_connection(("127.0.0.1", flusher.health_port))).sendall(b"GET /")
        flusher.stop()


def test_a_flusher_with_health_off_serves_nothing(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        off = w.flusher(WRITEBEHIND_FLUSHER__HEALTH_ADDRESS="off").wait_ready()
        off.stop()
        assert "health and metrics" not in off.log


def test_workers_answer_at_ports_of_their_own(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        flusher = w.flusher("--workers", "2")
        flusher.wait_log("health and metrics at http://127.0.0.1:", count=2)
        wait_ready(w, flusher)
        flusher.stop()

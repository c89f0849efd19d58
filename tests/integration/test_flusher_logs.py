"""What a flusher logs while it meets poison and outages: JSON, one object a line, and no value of a row."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.flusher_entities import Counter, Strict
from tests.integration.flusher_process import run_command, wait_until
from tests.integration.flusher_world import World, world
from tests.integration.guarded import Guarded

SECRET = "do-not-log-me"
NUMBER = 918273645546372819  # a value that nothing else is
JSON = {"WRITEBEHIND_LOG__FORMAT": "json", "WRITEBEHIND_LOG__LEVEL": "debug", "OTEL_TRACES_EXPORTER": "console"}


def test_poison_and_outages_are_logged_as_json_without_values(breakable_stack: Guarded, tmp_path: Path) -> None:
    with breakable_stack.corner() as corner, world(corner, tmp_path, Counter, Strict) as w:
        flusher = w.flusher(**JSON)
        w.put(Counter, 1, hits=1, note=SECRET)
        w.put(Strict, 1, amount=-NUMBER)  # the table refuses it, and quotes the row
        w.raw(Counter, SECRET.encode(), "1")  # no record at all
        w.wait_flushed()
        breakable_stack.postgres.stop()
        w.put(Counter, 1, hits=NUMBER, note=SECRET)
        w.send()
        flusher.wait_log("the database is not available")
        breakable_stack.postgres.start()
        breakable_stack.postgres.wait_ready()
        w.wait_flushed()
        _check_letters(w)
        flusher.stop()
        _check(flusher.log)


def _check_letters(w: World) -> None:
    wait_until(lambda: w.query("SELECT count(*) FROM {}.letter") == [(2,)], "both letters")


def _check(log: str) -> None:
    assert SECRET not in log
    assert str(NUMBER) not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith('{"time"')]
    assert {"INFO", "WARNING", "ERROR"} <= {line["level"] for line in lines}
    assert any("trace_id" in line for line in lines if "dead letter" in line["message"] or line["level"] == "ERROR")


def test_the_audit_logs_in_the_same_form(breakable_stack: Guarded, tmp_path: Path) -> None:
    with breakable_stack.corner() as corner, world(corner, tmp_path, Counter) as w:
        env = w.env_of("auditor", WRITEBEHIND_ENTITIES="tests.integration.flusher_entities:Counter", **JSON)
        assert "drift" in run_command(env, "audit", "--json")

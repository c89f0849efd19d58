"""`writebehind progress`: what stops a partition is shown, and a running flusher goes on once it is resolved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integration.flusher_entities import Counter, ProfileName, Strict, Town
from tests.integration.flusher_process import ROOT, TIMEOUT_S
from tests.integration.flusher_world import World, world
from tests.integration.guarded import OPERATOR
from tests.integration.test_flusher_stops import expire, put_both, recreate
from tests.zygote import run
from writebehind.embedded.isolation import Isolation


def progress(w: World, *arguments: str) -> tuple[int, str]:
    """Run `writebehind progress …` with nobody to ask; gives exit code and output. Only an operator may set it."""
    role = "auditor" if arguments[0] == "show" else OPERATOR
    done = run(
        [sys.executable, "-m", "writebehind.flusher", "progress", *arguments],
        env={**os.environ, **w.env_of(role)},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        timeout=TIMEOUT_S,
    )
    return done.returncode, done.stdout + done.stderr


def shown(w: World) -> dict[tuple[str, int], dict[str, Any]]:
    code, text = progress(w, "show", "--json")
    report = json.loads(text)
    assert code == (1 if report["stopped"] else 0)
    assert report["stopped"] == sum(one["gap"] is not None for one in report["partitions"])
    return {(one["topic"], one["partition"]): one for one in report["partitions"]}


def test_each_kind_of_gap_is_shown_and_its_own_command_makes_a_running_flusher_go_on(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with world(writebehind_isolated, tmp_path, Counter, Town, ProfileName, Strict) as w:
        put_both(w, *w.entities)
        first = w.flusher()
        w.wait_flushed()
        first.stop()
        assert progress(w, "show")[0] == 0
        recreate(w, Town)
        put_both(w, *w.entities)
        expire(w, ProfileName, 1, 8)
        w.execute(
            f'UPDATE "{w.corner.bookkeeping_schema}".progress SET next_offset = 22'
            f" WHERE topic = '{w.topic(Strict)}' AND partition = 0"
        )
        flusher = w.flusher()
        w.wait(lambda: flusher.log.count("The partition is stopped") == 4, "four partitions to be stopped")
        w.wait_flushed(Counter)
        found = shown(w)
        gaps = {place: one["gap"] for place, one in found.items() if one["gap"]}
        assert {place: one["records"] for place, one in gaps.items()} == {
            (w.topic(Town), 0): None,
            (w.topic(Town), 1): None,
            (w.topic(ProfileName), 1): 3,
            (w.topic(Strict), 0): 12,
        }
        assert found[w.topic(ProfileName), 1]["broker"]["start"] == 8
        code, text = progress(w, "show")
        assert code == 1
        for gap in gaps.values():
            assert f"to go on without them: {gap['command']}" in text
            assert f"`{gap['command']}`" in flusher.log
            code, done = progress(w, *gap["command"].split()[2:], "--yes")
            assert (code, "done by " in done) == (0, True), done
        w.wait_flushed()
        put_both(w, *w.entities)
        w.wait_flushed()
        w.tally.check(Counter, w.rows(Counter))
        assert not any(one["gap"] for one in shown(w).values())
        assert flusher.log.count("assigned") == first.log.count("assigned") == 1
        flusher.stop()


def test_a_running_owner_goes_on_where_it_was_moved_to(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Strict) as w:
        flusher = w.flusher()
        put_both(w, Strict)
        w.wait_flushed()

        def amounts() -> list[int]:
            return [w.rows(Strict)[number,]["amount"] for number in range(5)]

        back = ("set", w.topic(Strict), "0", "--offset", "2")
        code, text = progress(w, *back, "--yes")
        assert (code, "3 records would be flushed a second time" in text) == (2, True), text
        assert amounts() == [1] * 5
        code, text = progress(w, *back, "--yes", "--repeat")
        assert (code, "repeated: 3 records" in text) == (0, True), text
        w.wait_flushed()  # nothing new was written: the flusher noticed by itself
        w.wait(lambda: amounts() == [1, 1, 2, 2, 2], "what was asked for to be flushed again")
        put_both(w, Strict)
        w.wait_flushed()
        w.wait(lambda: amounts() == [2, 2, 3, 3, 3], "the rest to be flushed once")
        flusher.stop()


def test_what_is_refused_changes_nothing(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Strict) as w:
        assert progress(w, "show")[1].strip() == "no partition was ever claimed"
        flusher = w.flusher()
        put_both(w, Strict)
        w.wait_flushed()
        flusher.stop()
        topic, before = w.topic(Strict), w.query("SELECT * FROM {}.progress ORDER BY partition")
        for arguments, reason in {
            (topic, "0", "--offset", "latest"): "give --yes",
            (topic, "0", "--offset", "6", "--yes"): "outside the log, 0 to 5",
            (topic, "0", "--offset", "soon", "--yes"): "give a number",
            (topic, "7", "--offset", "0", "--yes"): "no such partition",
            (f"{topic}.other", "0", "--offset", "0", "--yes"): "no such partition",
            (topic, "0", "--offset", "0", "--yes"): "--repeat",
        }.items():
            code, text = progress(w, "set", *arguments)
            assert (code, reason in text) == (2, True), text
            assert "Traceback" not in text
        assert w.query("SELECT * FROM {}.progress ORDER BY partition") == before

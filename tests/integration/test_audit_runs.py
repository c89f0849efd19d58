"""Runs of `writebehind audit`: gone on with, from the database, with few rights, watched, refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.integration.audit_drift import in_sync
from tests.integration.audit_world import audited, findings, plant, run, start
from tests.integration.flusher_entities import Counter, Town
from tests.integration.flusher_process import TIMEOUT_S
from tests.integration.flusher_world import world
from tests.integration.logins import SECRET
from writebehind.embedded.isolation import Isolation


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_was_ended_goes_on_where_it_stood(
    writebehind_isolated: Isolation, tmp_path: Path, how: signal.Signals
) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        in_sync(w, 1, 6_000)
        w.execute("UPDATE counters SET hits = 6 WHERE id = 17")
        slow = ["audit", "--keys-per-second", "1000", "--confirm", "0.2", "--json"]
        compared = "SELECT (entities #>> '{{counter,compared}}')::int FROM {}.audit_run"
        with start(w, *slow) as ended:
            w.wait(lambda: any((count or 0) >= 1_000 for (count,) in w.query(compared)), "the audit to have begun")
            ended.send_signal(how)
            out, _ = ended.communicate(timeout=TIMEOUT_S)
        if how is signal.SIGTERM:
            assert json.loads(out)["finished"] is False
            assert ended.returncode in (1, 2), "drift that it had found, or nothing but its early end"
        before = w.query(compared)[0][0]
        ran = run(w, *slow, "--resume")
        told = ran.json
        assert (ran.code, told["run"], told["finished"]) == (1, 1, True)
        assert findings(w, 1) == {"17": "differs"}
        assert 6_000 <= told["compared"] <= 6_000 + before
        fresh = run(w, "audit", "--confirm", "0.2", "--resume", "--keys-per-second", "0", "--json")
        assert fresh.json["run"] == 2, "nothing was left to go on with"


def test_from_the_database_rows_with_an_entry_are_compared(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter, Town) as w:
        in_sync(w, 1, 1_500)
        w.cache.delete(*[w.entry(Counter, key) for key in range(1, 1_001)])
        w.execute("INSERT INTO towns SELECT 'D', 'town ' || n FROM generate_series(1, 1_200) AS n")
        plant(w, Town, ("D", "town 7"), {"mayor": "x"}, state="p")
        result = audited(w, from_database=True)
        assert result.drifted == {("town", "D|town 7")}
        counters, towns = (result.entities[name] for name in ("counter", "town"))
        # The newest rows come first, and no second time in their place.
        assert (counters["compared"], counters["coverage"]["uncached_rows"]) == (500, 1_000)
        assert towns["compared"] + towns["coverage"]["uncached_rows"] == 1_200


def test_an_auditor_looks_and_repairs_nothing(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        in_sync(w, 1, 10)
        allowed = run(w, "audit")
        assert (allowed.code, allowed.err) == (0, "")
        w.execute("UPDATE counters SET hits = 9 WHERE id = 3")
        denied = run(w, "audit", "--confirm", "0.2", "--repair", "auto", "--apply", **w.env_of("auditor"))
        assert (denied.code, "may not do this" in denied.err) == (2, True)
        w.execute("REVOKE SELECT ON counters FROM writebehind_auditor")
        blind = run(w, "audit")
        assert (blind.code, "42501" in blind.err) == (2, True)
        assert SECRET not in denied.err + blind.err


def test_what_cannot_be_audited_is_said(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        assert run(w, "audit", "nobody").code == 2
        assert run(w, "audit", "--sample", "0%").code == 2
        w.cache.set(f"{w.corner.cache_prefix}:junk", "x")
        w.cache.hset(w.entry(Counter, 1), "hits", "5")
        w.cache.set(w.entry(Counter, 2), "x")
        w.cache.hset(w.entry(Counter, 3).replace(":3}", ":three}"), "#", "x")
        page = tmp_path / "audit.html"
        ran = run(w, "audit", "--confirm", "0.2", "--html", str(page))
        assert ran.code == 2
        assert "unreadable 3" in ran.out
        assert "<svg" in page.read_text()
        assert "http" not in page.read_text()
        refused = run(w, "audit", "--repair", "auto", "--apply")
        assert (refused.code, "has no rows" in refused.err) == (2, True)
        plant(w, Counter, 7, {"note": "a"}, state="p")
        empty = run(w, "audit", "--confirm", "0.2")
        assert (empty.code, "has no rows" in empty.err) == (2, True)
        assert w.cache.exists(w.entry(Counter, 7)), "nothing was repaired"


def test_a_watch_alarms_again_only_while_drift_persists(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        in_sync(w, 1, 10)

        def runs() -> list[tuple[int, str | None]]:
            return w.query(
                "SELECT (entities #>> '{{counter,drift}}')::int, entities #>> '{{counter,verified_through}}' "
                "FROM {}.audit_run WHERE finished_at IS NOT NULL ORDER BY id"
            )

        arguments = ["audit", "--watch", "--interval", "0.2", "--confirm", "0.2", "--keys-per-second", "0"]
        with start(w, *arguments) as watching:
            w.wait(lambda: len(runs()) >= 2, "two runs")
            w.execute("UPDATE counters SET hits = 6 WHERE id = 7")
            w.wait(lambda: [drift for drift, _ in runs()].count(1) >= 3, "three runs that find it")
            w.execute("UPDATE counters SET hits = 5 WHERE id = 7")
            w.wait(lambda: runs()[-1][0] == 0, "a run that finds nothing any more")
            watching.terminate()
            _, err = watching.communicate(timeout=TIMEOUT_S)
        assert "1 new, 0 persist, 0 over" in err
        assert "0 new, 1 persist, 0 over" in err
        assert "0 new, 0 persist, 1 over" in err
        clean = [through for drift, through in runs() if not drift]
        assert None not in clean
        assert len(set(clean)) == len(clean), "each clean run moves the mark"
        assert len({through for drift, through in runs() if drift}) == 1, "a run that found drift does not"

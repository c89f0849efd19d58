"""The drift audit on real servers: what it finds among live writes, and what it sets right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.audit_drift import in_sync, plant_all
from tests.integration.audit_world import (
    LIVE_KEYS,
    NEW,
    OLD,
    audited,
    findings,
    lasting_entries,
    live_writes,
    plant,
    run,
)
from tests.integration.flusher_entities import Counter, Item
from tests.integration.flusher_producer import client
from tests.integration.flusher_world import world
from tests.integration.letters_world import letters
from writebehind.embedded.isolation import Isolation
from writebehind.flusher.audit.options import Repair
from writebehind.flusher.audit.suspects import Ends
from writebehind.flusher.audit.watermark import Watermark
from writebehind.shared.bookkeeping import short_names

(NOTE,) = short_names(["note"])


def test_all_planted_drift_is_found_among_live_writes_and_nothing_else(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with letters(writebehind_isolated, tmp_path, Counter) as made:
        w = made.world
        in_sync(w, LIVE_KEYS, 50)
        w.flusher()
        with live_writes(w):
            planted = plant_all(w, made, 10)
            w.wait(lambda: lasting_entries(w) >= LIVE_KEYS * 3 // 4, "entries of the live writes that last")
            result = audited(w)
            found = findings(w, result.run)
        assert {key: verdict for key, verdict in found.items() if key not in planted} == {}
        missed = {key: found.get(key) for key, verdicts in planted.items() if found.get(key) not in verdicts}
        assert missed == {}
        told = result.as_json()["entities"]["counter"]
        assert told["drift"] + told["verdicts"]["unreadable"] == len(planted)
        assert told["compared"] >= len(planted) + LIVE_KEYS // 2, "entries of the live writes were among them"
        assert told["verified_through"] is None
        assert result.code == 1


def test_repairs_set_right_what_is_still_as_it_was_seen(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with letters(writebehind_isolated, tmp_path, Counter) as made:
        w = made.world
        w.flusher()
        planted = plant_all(w, made, 3)
        plant(w, Counter, 1, {"note": "a"}, state="p", version=NEW, pending=1, parts=f" ={NOTE}")
        w.execute(f"INSERT INTO counters (id, hits, note, versions) VALUES (1, 0, 'a', '{{{NEW}}}')")
        dry = audited(w, repair=Repair.AUTO)
        assert set(dry.entities["counter"]["repairs"]) <= {
            "would be invalidated",
            "would be enqueued again",
            "would be settled",
            "left alone",
        }
        assert audited(w).drift == dry.drift > 0
        done = audited(w, repair=Repair.AUTO, apply=True).entities["counter"]["repairs"]
        assert (done["enqueued again"], done["settled"]) == (6, 1)
        lost = [int(key) for key, verdicts in planted.items() if "lost" in verdicts]
        w.wait_flushed()
        w.wait(lambda: not any(w.cache.exists(w.entry(Counter, key)) for key in lost), "the entries to be dropped")
        rows = w.rows(Counter)
        assert [rows[key,]["hits"] for key in lost] == [5, 5, 5, 12, 12, 12]
        assert [rows[key,]["note"] for key in lost[:3]] == ["lost"] * 3
        again = audited(w)
        assert (again.drift, again.entities["counter"]["verdicts"]["unsettled"]) == (0, 0)
        told = run(w, "whereis", "counter", str(lost[0]), "--json").json
        assert (told["audit"]["verdict"], told["audit"]["repair"]) == ("lost", "enqueued again")


def test_a_write_that_went_around_the_cache_is_not_overwritten_by_a_lost_one_that_was_before_it(
    writebehind_isolated: Isolation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is acknowledged after the audit has noted the ends of the log, and not in the row when the audit repairs."""
    with world(writebehind_isolated, tmp_path, Counter) as w:
        w.execute(f"INSERT INTO counters (id, note, versions) VALUES (1, 'old', '{{{OLD}}}')")
        plant(w, Counter, 1, {"note": "lost"}, state="p", version=NEW, pending=1, parts=f" ={NOTE}")
        note, noted = Watermark.ends, 0

        def ends(self: Watermark, entity: str) -> Ends:
            nonlocal noted
            found, noted = note(self, entity), noted + 1
            if noted == 2:  # the first time is a look whether there is a topic at all
                w.put(Counter, 1, version=NEW + 1, note="newer")
                w.send()
            return found

        monkeypatch.setattr(Watermark, "ends", ends)
        assert audited(w, repair=Repair.AUTO, apply=True).entities["counter"]["repairs"] == {"enqueued again": 1}
        w.flusher()
        w.wait_flushed()
        assert w.rows(Counter)[1,]["note"] == "newer"


def test_a_lost_delete_is_rolled_back_or_rolled_forward(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Item) as w, client(w) as c:
        w.execute(f"INSERT INTO items (id, title, versions) VALUES (1, 'kept', '{{{OLD},{OLD},{OLD}}}')")
        plant(w, Item, 1, {}, state="n", version=NEW, pending=1, parts=f" d{NEW}")
        result = audited(w, repair=Repair.INVALIDATE, apply=True)
        assert result.entities["item"]["repairs"] == {"invalidated": 1}
        assert getattr(c.get(Item, 1), "title", None) == "kept"
        plant(w, Item, 1, {}, state="n", version=NEW, pending=1, parts=f" d{NEW}")
        assert audited(w, repair=Repair.RE_ENQUEUE, apply=True).entities["item"]["repairs"] == {"enqueued again": 1}
        w.flusher()
        w.wait_flushed()
        assert w.rows(Item) == {}


def test_a_cache_that_loses_everything_is_no_drift(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        in_sync(w, LIVE_KEYS, 50)
        w.flusher()
        with live_writes(w):
            for _ in range(3):
                w.cache.flushall()
                assert findings(w, audited(w).run) == {}

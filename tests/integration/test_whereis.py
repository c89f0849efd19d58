"""`writebehind whereis` on real servers: one key in each state it may be in."""

from __future__ import annotations

from pathlib import Path

from tests.integration.audit_world import NEW, OLD, plant, run
from tests.integration.flusher_entities import Counter, Town
from tests.integration.flusher_producer import client, settled
from tests.integration.flusher_world import world
from tests.integration.letters_world import letters
from writebehind.embedded.isolation import Isolation
from writebehind.shared.bookkeeping import short_names

(NOTE,) = short_names(["note"])


def test_a_write_is_followed_from_kafka_to_the_row(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w, client(w) as c:
        assert run(w, "whereis", "counter", "1", "--json").json["conclusion"] == ("not cached: there is no row either")
        w.execute("INSERT INTO counters (id, hits) VALUES (1, 7)")
        receipts = [c.update(Counter, 1, note="s3cret"), c.add(Counter, 1, hits=5)]
        for key in range(2, 40):
            c.add(Counter, key, hits=1)
        waiting = run(w, "whereis", "counter", "1", "--json")
        assert waiting.code == 0
        told = waiting.json
        assert told["verdict"] == "pending"
        assert [record["version"] for record in told["kafka"]["records"]] == [r.version for r in receipts]
        assert told["kafka"]["behind"] > 2
        assert told["cache"]["pending"] == 2
        assert told["cache"]["ttl_ms"] is None
        assert told["cache"]["versions"] == {"note": receipts[0].version}
        assert told["row"]["version"] is None
        assert "s3cret" not in waiting.out
        assert "s3cret" in run(w, "whereis", "counter", "1", "--show-values").out
        w.flusher()
        w.wait_flushed()
        w.wait(lambda: settled(w, Counter, [1]), "the entry to be settled")
        told = run(w, "whereis", "counter", "1", "--json").json
        assert (told["verdict"], told["kafka"]["records"]) == ("in_sync", [])
        assert told["row"]["versions"]["note"] == receipts[0].version
        assert told["cache"]["ttl_ms"] > 0


def test_an_entry_that_drifted_is_told_with_the_fields_that_differ(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with world(writebehind_isolated, tmp_path, Counter, Town) as w:
        w.execute(f"INSERT INTO counters (id, hits, note, versions) VALUES (1, 5, 'b', '{{{NEW}}}')")
        w.execute("INSERT INTO towns (country, name, mayor) VALUES ('D|E', 'Ulm', 'x')")
        plant(w, Counter, 1, {"hits": "5", "note": "a", "high": "\0", "low": "\0"})
        plant(w, Counter, 2, {"note": "a"}, state="p", version=NEW, pending=1, parts=f" ={NOTE}")
        plant(w, Town, ("D|E", "Ulm"), {"mayor": "y"}, state="p", version=OLD)
        w.cache.set(w.entry(Counter, 3), "something else")
        w.execute("INSERT INTO counters (id, hits) VALUES (4, 5)")
        plant(w, Counter, 4, {"hits": "5"}, state="P", version=OLD, generation=NEW, pending=1, parts=f" h{OLD}")
        stale = run(w, "whereis", "counter", "1")
        assert stale.code == 1
        assert "stale: the row is newer than the entry (note)" in stale.out
        lost = run(w, "whereis", "counter", "2", "--json")
        assert (lost.code, lost.json["verdict"]) == (1, "lost")
        doubted = run(w, "whereis", "counter", "4", "--json").json
        assert (doubted["verdict"], doubted["cache"]["in_doubt"]) == ("unsettled", True)
        assert "left in doubt by a flusher" in doubted["conclusion"]
        for parts in (["D|E", "Ulm"], ["D%7CE|Ulm"]):
            assert run(w, "whereis", "town", *parts, "--json").json["differing"] == ["mayor"]
        assert run(w, "whereis", "counter", "3", "--json").json["verdict"] == "unreadable"


def test_a_refused_write_is_told_with_its_letter(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with letters(writebehind_isolated, tmp_path, Counter) as made:
        w = made.world
        plant(w, Counter, 7, {"note": "bad"}, state="p", version=NEW, generation=OLD, pending=1, parts=f" ={NOTE}")
        made.put(Counter, 7, version=NEW, note="bad")
        w.send()
        told = run(w, "whereis", "counter", "7", "--json").json
        assert told["verdict"] == "refused"
        assert [letter["sqlstate"] for letter in told["letters"]] == ["23514"]


def test_what_is_no_key_or_no_entity_is_said(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        for arguments, reason in (
            (["nobody", "1"], "unknown entity"),
            (["counter", "one"], "no key of counter"),
            (["counter", str(2**63)], "between"),
            (["counter", "1", "2"], "no key of counter"),
        ):
            ran = run(w, "whereis", *arguments)
            assert (ran.code, ran.out) == (2, "")
            assert reason in ran.err

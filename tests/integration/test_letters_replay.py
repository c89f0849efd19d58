"""`writebehind letters replay`: exactly once, under the version guard, and nothing that cannot be trusted."""

from __future__ import annotations

from pathlib import Path

from tests.integration.flusher_entities import Counter, Item, Known, Strict
from tests.integration.flusher_world import FIRST_VERSION
from tests.integration.letters_world import letters
from writebehind.embedded.isolation import Isolation

NEWER = FIRST_VERSION + 1_000_000


def test_a_dry_run_says_what_a_replay_does_and_a_second_replay_does_nothing(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with letters(writebehind_isolated, tmp_path, Counter, Strict) as made:
        for number in range(30):
            made.put(Counter, number % 3, hits=1, high=number, note=f"n{number}")
        made.put(Strict, 1, amount=-5)
        dry = made.run("replay", "--json")
        assert (dry.code, dry.summary) == (1, {"applied": 30, "refused": 1})
        assert made.world.rows(Counter) == {}
        assert made.count("refused") == 31
        done = made.run("replay", "--apply", "--json")
        assert (done.code, done.summary) == (1, dry.summary)
        assert done.summary == {"applied": 30, "refused": 1}
        expected = {(key,): {"hits": 10, "high": 27 + key, "low": None, "note": f"n{27 + key}"} for key in range(3)}
        assert made.world.rows(Counter) == expected
        again = made.run("replay", "--apply", "--json")
        assert (again.code, again.summary) == (1, {"refused": 1})
        assert made.world.rows(Counter) == expected
        assert max(made.states().values()) == ("refused", 2)


def test_what_is_newer_in_the_row_stays(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with letters(writebehind_isolated, tmp_path, Counter) as made:
        made.put(Counter, 1, version=NEWER, note="newest")
        made.put(Counter, 2, version=NEWER, note="newest")
        assert made.run("replay", "--apply", "--json").summary == {"applied": 2}
        old = made.put(Counter, 1, note="old")
        mixed = made.put(Counter, 2, note="old", hits=7)
        bounds = made.put(Counter, 1, low=3)
        done = made.run("replay", "--apply", "--json")
        assert (done.code, done.summary) == (0, {"applied": 2, "superseded": 1})
        assert made.world.rows(Counter) == {
            (1,): {"hits": 0, "high": None, "low": 3, "note": "newest"},
            (2,): {"hits": 7, "high": None, "low": None, "note": "newest"},
        }
        states = {place: state for place, (state, _) in made.states().items()}
        assert (states[old], states[mixed], states[bounds]) == ("superseded", "applied", "applied")


def test_a_delete_takes_what_is_older_and_is_taken_by_nothing(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with letters(writebehind_isolated, tmp_path, Item) as made:
        # 1: written, deleted, written again, in one chunk. 2: deleted later by the flusher. 3: a delete that is late.
        made.put(Item, 1, title="first", stock=5)
        made.put(Item, 1)
        made.put(Item, 1, stock=2)
        made.world.put(Item, 2, version=NEWER)
        made.world.put(Item, 3, version=NEWER, title="newest")
        made.world.put(Item, 3, version=FIRST_VERSION - 5, best=9)
        made.world.flusher()
        made.world.wait_flushed()
        ghost = made.put(Item, 2, title="ghost", stock=100, best=100)
        late = made.put(Item, 3, version=FIRST_VERSION + 50)
        late_again = made.put(Item, 2, version=FIRST_VERSION + 50)
        done = made.run("replay", "--apply", "--json")
        assert (done.code, done.summary) == (0, {"applied": 3, "superseded": 3})
        assert made.world.rows(Item) == {
            (1,): {"title": "untitled", "stock": 2, "best": None},
            (3,): {"title": "newest", "stock": 0, "best": None},
        }
        states = {place: state for place, (state, _) in made.states().items()}
        assert (states[ghost], states[late], states[late_again]) == ("superseded", "applied", "superseded")
        made.put(Item, 3, version=FIRST_VERSION + 40, title="older than the late delete", stock=3)
        assert made.run("replay", "--apply", "--json").summary == {"superseded": 1}


def test_one_bad_letter_is_kept_and_its_neighbours_are_applied(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with letters(writebehind_isolated, tmp_path, Strict, Known) as made:
        for key in range(40):
            made.put(Strict, key, amount=1)
        bad = made.put(Strict, 100, amount=-5)
        made.put(Strict, 200, amount=-5)  # alone it would be refused; with the next one it is not
        made.put(Strict, 200, amount=15)
        nowhere = made.put(Known, 1, note="no such row")
        done = made.run("replay", "--apply", "--json")
        assert (done.code, done.summary) == (1, {"applied": 42, "refused": 2})
        assert "SQLSTATE 23514, constraint strict_amount_check" in done.reasons[bad]
        assert "on_missing makes none" in done.reasons[nowhere]
        assert made.states()[bad] == ("refused", 1)
        rows = made.world.rows(Strict)
        assert {(100,)} & rows.keys() == set()
        assert rows[(200,)] == {"amount": 10}
        made.world.execute("ALTER TABLE strict DROP CONSTRAINT strict_amount_check")
        made.world.execute("INSERT INTO known VALUES (1, 'before')")
        assert made.run("replay", "--apply", "--json").summary == {"applied": 2}
        assert made.world.rows(Strict)[(100,)] == {"amount": -5}
        assert made.world.rows(Known) == {(1,): {"note": "no such row"}}


def test_constraints_that_wait_for_the_commit_and_unique_columns_are_a_letters_own_fault(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with letters(writebehind_isolated, tmp_path, Counter) as made:
        made.world.execute(
            "CREATE TABLE owners (note text PRIMARY KEY); INSERT INTO owners VALUES ('known'), ('none yet'), ('twice');"
            "ALTER TABLE counters ADD FOREIGN KEY (note) REFERENCES owners DEFERRABLE INITIALLY DEFERRED;"
            "CREATE UNIQUE INDEX one_high ON counters (high)"
        )
        made.put(Counter, 1, note="known", high=1)
        orphan = made.put(Counter, 2, note="stranger")
        twin = made.put(Counter, 3, high=1)
        made.put(Counter, 4, high=4)
        done = made.run("replay", "--apply", "--json")
        assert (done.code, done.summary) == (1, {"applied": 2, "refused": 2})
        assert "23503" in done.reasons[orphan]
        assert "23505, constraint one_high" in done.reasons[twin]


def test_what_cannot_be_trusted_or_understood_is_refused_kept_and_explained(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with letters(writebehind_isolated, tmp_path, Counter, Strict) as made:
        good = made.put(Counter, 1, hits=1)
        expected = {
            made.put(Counter, 2, hits=1, change={"key": b"3"}): "key is not the key",
            made.put(Counter, 2, hits=1, change={"table": "strict"}): "its table was strict, now counters",
            made.put(Counter, 2, hits=1, change={"version": 5}): "the version in its header",
            made.put(Counter, 2, hits=1, change={"entity": "strict"}): "it names entity strict",
            made.put(Counter, 2, hits=1, change={"value": b"\x93\x01\x02\x03"}): "fingerprint 1",
            made.put(Counter, 2, hits=1, change={"value": b"\xff\x00"}): "not a record of counter",
            made.put(Counter, 2, hits=1, change={"value": None}): "no value",
            made.put(Counter, 2, hits=1, message=False): "no longer in the topic",
        }
        twice = made.put(Counter, 2, hits=1)
        made.again(Counter, twice, key=b"2", value=b"another", version=None)
        expected[twice] = "messages of this origin differ"
        made.put(Counter, 2, hits=1, row=False)  # void: not even tried
        made.world.execute(
            f"""UPDATE "{made.world.corner.bookkeeping_schema}".letter SET entity = 'gone'"""
            f""" WHERE "offset" = (SELECT max("offset") FROM "{made.world.corner.bookkeeping_schema}".letter)"""
        )
        gone = made.put(Strict, 1, amount=1, change={"entity": "gone"})
        made.world.execute(
            f"""UPDATE "{made.world.corner.bookkeeping_schema}".letter SET entity = 'gone' WHERE topic LIKE '%strict'"""
        )
        expected[gone] = "not declared any more"
        done = made.run("replay", "--apply", "--json")
        assert (done.code, done.summary) == (1, {"applied": 1, "rejected": len(expected)})
        reasons = done.reasons
        wrong = {place: reasons.get(place) for place, text in expected.items() if text not in str(reasons.get(place))}
        assert not wrong
        assert made.world.rows(Counter) == {(1,): {"hits": 1, "high": None, "low": None, "note": "none yet"}}
        states = made.states()
        assert states.pop(good) == ("applied", 0)
        assert set(states.values()) == {("refused", 0)}


def test_limits_and_filters_choose_what_is_tried(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with letters(writebehind_isolated, tmp_path, Counter, Strict) as made:
        places = [made.put(Counter, key, hits=1) for key in range(5)]
        bad = made.put(Strict, 1, amount=-1)
        assert made.run("replay", "--apply", "--json", places[3]).summary == {"applied": 1}
        assert made.run("replay", "--apply", "--json", "--key", "1").summary == {"applied": 1, "refused": 1}
        assert made.run("replay", "--apply", "--json", "--entity", "counter", "--max", "2").summary == {"applied": 2}
        assert made.run("replay", "--apply", "--json", "--since", "1h").summary == {}
        quarantined = made.run("replay", "--apply", "--json", "--entity", "strict", "--max-replays", "1")
        assert (quarantined.code, quarantined.summary) == (1, {"rejected": 1})
        assert "refused again 1 times" in quarantined.reasons[bad]
        assert made.states()[bad] == ("refused", 1)


def test_a_table_that_is_not_there_changes_nothing(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with letters(writebehind_isolated, tmp_path, Counter) as made:
        made.put(Counter, 1, hits=1)
        made.world.execute("ALTER TABLE counters RENAME TO elsewhere")
        done = made.run("replay", "--apply")
        assert done.code == 2
        assert "there is no table counters" in done.err
        assert set(made.states().values()) == {("refused", 0)}

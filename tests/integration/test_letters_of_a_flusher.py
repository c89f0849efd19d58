"""Letters as a flusher writes them, through every command: refused, looked at, mended, replayed once."""

from __future__ import annotations

from pathlib import Path

from tests.integration.flusher_entities import Counter, Strict
from tests.integration.flusher_producer import client, settled, shown
from tests.integration.letters_world import Letters, letters
from writebehind.embedded.isolation import Isolation
from writebehind.producer import Client

KEYS = (1, 2, 3)


def refuse(made: Letters, c: Client) -> None:
    """A flusher meets a patch and an increment that the table refuses, and bytes that are no record."""
    w = made.world
    w.execute("ALTER TABLE counters ADD CONSTRAINT shy CHECK (high < 100 AND hits < 100)")
    for key in KEYS:
        c.update(Counter, key, high=key, note="before")
    w.flusher()
    w.wait(lambda: settled(w, Counter, KEYS), "the first writes to be settled")
    c.update(Counter, 1, high=500, note="refused")
    c.add(Counter, 2, hits=500)
    c.update(Counter, 3, note="good")
    w.raw(Counter, b"no record", "4")
    w.wait_flushed()
    w.wait(lambda: settled(w, Counter, KEYS), "the refused writes to leave the cache")


def state(made: Letters, c: Client) -> dict[int, tuple[int | None, int, str | None]]:
    """What the rows hold; the cache must show the same at this moment."""
    rows = {key: (row["high"], row["hits"], row["note"]) for (key,), row in made.world.rows(Counter).items()}
    assert {key: (shown(c, key).high, shown(c, key).hits, shown(c, key).note) for key in rows} == rows
    return rows


BEFORE = {1: (1, 0, "before"), 2: (2, 0, "before"), 3: (3, 0, "good")}
AFTER = {1: (500, 0, "refused"), 2: (2, 500, "before"), 3: (3, 0, "good")}


def test_what_the_table_refused_is_applied_once_when_it_is_mended(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with letters(writebehind_isolated, tmp_path, Counter) as made, client(made.world) as c:
        refuse(made, c)
        assert state(made, c) == BEFORE
        listed = made.run("list", "--json", "--reason", "23514")
        assert listed.code == 1
        by_key = {line["key"]: line for line in listed.lines}
        assert by_key.keys() == {"1", "2"}
        assert {(line["state"], line["constraint"], line["replay_count"]) for line in listed.lines} == {
            ("refused", "shy", 0)
        }
        showed = made.run("show", by_key["1"]["letter"], "--show-values", "--json").lines[0]
        assert showed["fields"] == {"high": "500", "note": "refused"}
        assert ["writebehind.sqlstate", "23514"] in showed["headers"]

        still = made.run("replay", "--apply", "--json", "--reason", "23514")
        assert (still.code, still.summary) == (1, {"refused": 2})
        assert state(made, c) == BEFORE

        made.world.execute("ALTER TABLE counters DROP CONSTRAINT shy")
        assert made.run("replay", "--json", "--reason", "23514").summary == {"applied": 2}
        assert state(made, c) == BEFORE
        done = made.run("replay", "--apply", "--json", "--reason", "23514")
        assert (done.code, done.summary) == (0, {"applied": 2})
        assert state(made, c) == AFTER
        again = made.run("replay", "--apply", "--json", "--reason", "23514")
        assert (again.code, again.summary) == (0, {})
        assert state(made, c) == AFTER
        states = {line["key"]: line["state"] for line in made.run("list", "--json", "--reason", "23514").lines}
        assert states == {"1": "applied", "2": "applied"}

        # What was written meanwhile goes on from the replayed row.
        c.add(Counter, 2, hits=1)
        made.world.wait_flushed()
        assert state(made, c) == {**AFTER, 2: (2, 501, "before")}


def test_a_record_that_could_not_be_read_is_refused_again_kept_and_explained(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with letters(writebehind_isolated, tmp_path, Counter, Strict) as made, client(made.world) as c:
        refuse(made, c)
        listed = made.run("list", "--json", "--key", "4").lines
        assert [(line["sqlstate"], line["state"], line["entity"]) for line in listed] == [(None, "refused", "counter")]
        place = listed[0]["letter"]
        assert made.run("show", place, "--show-values").code == 0
        for _ in range(2):
            done = made.run("replay", place, "--apply", "--json")
            assert (done.code, done.summary) == (1, {"rejected": 1})
            assert "not a record of counter" in done.reasons[place]
        assert made.states()[place] == ("refused", 0)
        assert [line["letter"] for line in made.run("list", "--json", "--key", "4").lines] == [place]


def test_letters_of_an_entity_that_is_declared_no_more_are_refused_kept_and_explained(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with letters(writebehind_isolated, tmp_path, Counter, Strict) as made, client(made.world) as c:
        refuse(made, c)
        made.world.execute("ALTER TABLE counters DROP CONSTRAINT shy")
        made.world.entities = (Strict,)  # as the next deployment has it
        done = made.run("replay", "--apply", "--json", "--entity", "counter")
        assert (done.code, done.summary) == (1, {"rejected": 3})
        assert set(done.reasons.values()) == {
            "its entity is not declared any more: declare it again, or discard the letter"
        }
        assert set(made.states().values()) == {("refused", 0)}
        assert state(made, c) == BEFORE
        made.world.entities = (Counter, Strict)
        assert made.run("replay", "--apply", "--json").summary == {"applied": 2, "rejected": 1}
        assert state(made, c) == AFTER

"""Replays that are killed, that meet one another or a flusher, and what the cache shows after them."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any

from tests.integration.flusher_entities import Counter, Item
from tests.integration.flusher_process import wait_until
from tests.integration.flusher_producer import client, shown
from tests.integration.flusher_world import FIRST_VERSION
from tests.integration.letters_world import Letters, letters
from writebehind.embedded.isolation import Isolation
from writebehind.shared import bookkeeping

LETTERS = 600
KEYS = 7


def load(made: Letters, count: int = LETTERS) -> None:
    """Letters of sums, bounds and texts, which the tally knows too."""
    chance = random.Random(1)
    for number in range(count):
        key, size = chance.randrange(KEYS), chance.randrange(-1000, 1000)
        patch: dict[str, Any] = {"hits": chance.randrange(1, 9), "high": size, "low": size, "note": f"n{number}"}
        made.put(Counter, key, version=FIRST_VERSION + number, **patch)
        made.world.tally.add(Counter, (key,), FIRST_VERSION + number, patch)


def reached(made: Letters, left: int) -> bool:
    """Whether no more letters than these are open."""
    return made.count("refused") <= left


def test_a_replay_killed_at_any_moment_and_run_again_is_exact(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with letters(writebehind_isolated, tmp_path, Counter) as made:
        load(made)
        for left in (LETTERS * 4 // 5, LETTERS * 3 // 5, LETTERS * 2 // 5):
            process = made.start("replay", "--apply", "--chunk", "3")
            wait_until(partial(reached, made, left), "letters applied")
            process.kill()
            process.communicate()
            assert made.count("refused") > 0, "the replay was done before it was killed: nothing was tested"
        done = made.run("replay", "--apply", "--json")
        assert done.code == 0
        assert made.count("refused") == 0
        made.world.check()
        assert made.run("replay", "--apply", "--json").summary == {}
        made.world.check()


def test_a_replay_killed_inside_its_transaction_leaves_no_trace_of_it(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with letters(writebehind_isolated, tmp_path, Counter) as made:
        load(made, 20)
        made.world.execute("INSERT INTO counters (id) VALUES (6)")
        with made.world.connect() as blocker:
            blocker.execute("BEGIN")
            blocker.execute("SELECT FROM counters FOR UPDATE")
            process = made.start("replay", "--apply")
            waiting = "SELECT FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE application_name = 'writebehind-letters replay')"  # noqa: E501
            wait_until(lambda: made.world.query(waiting), "the replay to wait for a row")
            process.kill()
            process.communicate()
        assert made.count("refused") == 20
        assert made.run("replay", "--apply", "--json").summary.keys() <= {"applied", "superseded"}
        assert made.count("refused") == 0
        made.world.check()


def test_replays_side_by_side_with_a_flusher_apply_each_letter_once(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with letters(writebehind_isolated, tmp_path, Counter, Item) as made:
        load(made, 300)
        for number in range(60):
            made.put(Item, number % 5, stock=1, version=FIRST_VERSION + number)
        made.world.flusher().wait_ready()
        replays = [made.start("replay", "--apply", "--chunk", "5") for _ in range(3)]
        for seed in range(15):
            made.world.load(Counter, 40, keys=KEYS, seed=seed)
            made.world.put(Item, seed % 5, version=FIRST_VERSION + 10_000 + seed)
            made.world.send()
        for replay in replays:
            out, err = replay.communicate(timeout=60)
            assert replay.returncode == 0, out + err
        made.world.wait_flushed()
        assert made.count("refused") == 0
        made.world.tally.check(Counter, made.world.rows(Counter))
        assert made.world.rows(Item) == {}, "every letter is older than its row's delete"


def test_no_clean_entry_goes_on_showing_what_was_before(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with letters(writebehind_isolated, tmp_path, Counter) as made, client(made.world) as services:
        made.world.execute("INSERT INTO counters (id, hits) VALUES (1, 10), (2, 20), (3, 30)")
        before = [shown(services, key).hits for key in (1, 2, 3)]
        for key in (1, 2, 3):
            made.put(Counter, key, hits=1)
        services.add(Counter, 2, hits=5)  # nobody flushes: pending
        down = {"WRITEBEHIND_CACHE__URL": "redis://127.0.0.1:1/0"}
        untold = made.run("replay", "--apply", "--json", **down)
        assert (untold.code, untold.summary) == (1, {"applied": 3, "cache_untold": 3})
        assert [shown(services, key).hits for key in (1, 2, 3)] == [10, 25, 30], "the cache was not told"
        told = made.run("replay", "--apply", "--json")
        assert (told.code, told.summary) == (0, {})
        assert (before, [shown(services, key).hits for key in (1, 3)]) == ([10, 20, 30], [11, 31])
        entry = made.world.hash(Counter, 2)
        known = bookkeeping.of(entry)
        assert (known.pending, known.tainted, entry["hits"]) == (1, True, "25")
        made.world.flusher()
        made.world.wait_flushed()
        made.world.wait(lambda: shown(services, 2).hits == 26, "the pending entry to be dropped once it is clean")


def test_a_dry_run_leaves_the_cache_alone(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with letters(writebehind_isolated, tmp_path, Counter) as made, client(made.world) as services:
        made.world.execute("INSERT INTO counters (id, hits) VALUES (1, 10)")
        assert shown(services, 1).hits == 10
        made.put(Counter, 1, hits=1)
        assert made.run("replay", "--json").summary == {"applied": 1}
        assert made.world.hash(Counter, 1)["hits"] == "10"

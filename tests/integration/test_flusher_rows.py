"""What the flusher makes of records: every merge, keys of several columns, entities that share a process or a table."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from tests.integration.flusher_entities import Counter, Item, Known, ProfileName, ProfileStats, Town
from tests.integration.flusher_world import world
from writebehind.embedded.isolation import Isolation


def test_several_entities_in_one_process_are_exact(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter, Town, ProfileName, ProfileStats) as w:
        w.load(Counter, 500)
        w.flusher()
        for number in range(200):
            key = ("NL" if number % 2 else "B|E", f"town {number % 7} {{é}}")
            w.put(Town, key, paid=Decimal("0.0001") * number, mayor=f"m{number}")
            # The same new rows from two topics at once: one of the two inserts comes second, and must update.
            w.put(ProfileName, number, name=f"name {number}")
            w.put(ProfileStats, number, visits=number, city=None if number % 3 else "Gent")
        w.load(Counter, 500, seed=2)
        w.wait_flushed()
        w.check()


def test_what_a_patch_leaves_out_and_what_it_sets_to_none(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter, Known) as w:
        w.execute("INSERT INTO known VALUES (1, 'before')")
        w.flusher()
        w.put(Counter, 1, hits=1)  # a new row: the table's own defaults for the rest
        w.put(Counter, 2, note=None)  # None is a value
        w.put(Counter, 3, high=5, note="three")
        w.put(Known, 1, note="after")
        w.put(Known, 2, note="no such row")
        w.wait_flushed()
        assert w.rows(Counter) == {
            (1,): {"hits": 1, "high": None, "low": None, "note": "none yet"},
            (2,): {"hits": 0, "high": None, "low": None, "note": None},
            (3,): {"hits": 0, "high": 5, "low": None, "note": "three"},
        }
        assert w.rows(Known) == {(1,): {"note": "after"}}
        w.put(Counter, 1, note=None)
        w.put(Counter, 2, high=-1, low=-1)
        newest = w.put(Counter, 3, note="newest")
        w.wait_flushed()
        w.put(
            Counter, 3, note="late", low=7, version=newest - 1
        )  # older than what the row has: only its minimum counts
        w.wait_flushed()
        assert w.rows(Counter) == {
            (1,): {"hits": 1, "high": None, "low": None, "note": None},
            (2,): {"hits": 0, "high": -1, "low": -1, "note": None},
            (3,): {"hits": 0, "high": 5, "low": 7, "note": "newest"},
        }


def test_put_delete_put_within_one_batch_and_across_batches(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Item) as w:
        for key in range(1, 6):
            w.put(Item, key, title="first", stock=5, best=9)
        w.put(Item, 1)  # put, delete, put
        w.put(Item, 1, stock=2)
        w.put(Item, 2)  # put, delete
        w.put(Item, 3, title="second", stock=1)  # put, put
        w.send()
        w.flusher()  # finds all of it at once
        w.wait_flushed()
        first = {"title": "first", "stock": 5, "best": 9}
        assert w.rows(Item) == {
            (1,): {"title": "untitled", "stock": 2, "best": None},
            (3,): {"title": "second", "stock": 6, "best": 9},
            (4,): first,
            (5,): first,
        }
        older = w.put(Item, 4)  # across batches
        w.put(Item, 3)
        w.wait_flushed()
        assert w.rows(Item).keys() == {(1,), (5,)}
        w.put(Item, 4, title="ghost", stock=100, best=100, version=older - 1)  # must not bring the row back
        w.put(Item, 2, title="again")
        w.put(Item, 3, best=1)
        w.put(Item, 3)
        w.put(Item, 3, best=2)
        w.wait_flushed()
        assert w.rows(Item) == {
            (1,): {"title": "untitled", "stock": 2, "best": None},
            (2,): {"title": "again", "stock": 0, "best": None},
            (3,): {"title": "untitled", "stock": 0, "best": 2},
            (5,): first,
        }


def test_a_delete_that_comes_late_keeps_what_is_newer(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Item) as w:
        w.flusher()
        deleted = w.put(Item, 1, title="old", best=3, stock=4) + 1
        w.put(Item, 1, title="new", version=deleted + 1)
        w.put(Item, 2, title="old", version=deleted - 1)
        w.wait_flushed()
        w.put(Item, 1, version=deleted)
        w.put(Item, 2, version=deleted)
        w.wait_flushed()
        assert w.rows(Item) == {(1,): {"title": "new", "stock": 0, "best": None}}

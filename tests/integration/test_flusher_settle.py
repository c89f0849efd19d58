"""What the cache learns from the flusher after a commit, with writes made by the producer library."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.proxy import Moment
from tests.faults.wire import Postgres, Redis
from tests.integration.flusher_entities import Counter, Item
from tests.integration.flusher_producer import client, pending, settled, shown
from tests.integration.flusher_world import World, world
from writebehind.embedded.isolation import Isolation
from writebehind.shared import bookkeeping
from writebehind.shared.entity import Entity


def wait_settled(w: World, cls: type[Entity], *keys: int) -> None:
    w.wait(lambda: settled(w, cls, keys), f"{keys} to be settled")


def test_pending_writes_are_settled_and_entries_expire_again(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w, client(w) as c:
        w.execute("INSERT INTO counters (id, hits, note) VALUES (1, 10, 'old'), (2, 20, 'old')")
        entries = [w.entry(Counter, key) for key in (1, 2, 3)]
        for key in (1, 2, 3):
            c.update(Counter, key, note="new")
            c.add(Counter, key, hits=5)
            c.add(Counter, key, hits=1)
        assert pending(w, Counter, (1, 2, 3)) == [3, 3, 3]
        assert [w.cache.pttl(entry) for entry in entries] == [-1, -1, -1]
        w.flusher()
        wait_settled(w, Counter, 1, 2, 3)
        assert w.rows(Counter)[1,] == {"hits": 16, "high": None, "low": None, "note": "new"}
        kept = [bookkeeping.of(w.hash(Counter, key)) for key in (1, 2, 3)]
        assert [(each.marks, each.sums) for each in kept] == [({}, {})] * 3
        assert [shown(c, key).hits for key in (1, 2, 3)] == [16, 26, 6]


def test_records_of_an_entry_that_was_lost_make_the_newer_entry_reload(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w, client(w) as c:
        c.add(Counter, 1, hits=5)
        w.cache.delete(w.entry(Counter, 1))
        c.add(Counter, 1, hits=7)  # starts from the row, which does not have the 5 yet
        w.flusher()
        w.wait_flushed()
        wait_settled(w, Counter, 1)
        assert w.rows(Counter)[1,]["hits"] == 12
        assert shown(c, 1).hits == 12


def test_an_entry_that_is_never_clean_is_healed(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w, client(w) as c:
        entry = w.entry(Counter, 1)
        c.add(Counter, 1, hits=5)
        w.cache.delete(entry)
        c.add(Counter, 1, hits=7)
        # A write of 100 that is in the cache and not in Kafka yet: the entry does not become clean.
        w.cache.hincrby(entry, "hits", 100)
        kept = bookkeeping.of(w.hash(Counter, 1))
        [(short, unsettled)] = kept.sums.items()
        header = f"{kept.version:016d} {kept.generation:016d}c{kept.pending + 1} +{short}{int(unsettled) + 100}"
        w.cache.hset(entry, bookkeeping.FIELD, header)
        w.flusher()
        w.wait_flushed()
        w.wait(lambda: bookkeeping.of(w.hash(Counter, 1)).tainted, "the entry to be known as tainted")
        assert w.cache.hget(entry, "hits") == "107"

        def healed() -> bool:
            w.put(Counter, 2, hits=1)  # healing goes along with commits
            w.send()
            return not bookkeeping.of(w.hash(Counter, 1)).tainted

        w.wait(healed, "the entry to be healed")
        assert w.cache.hget(entry, "hits") == "112"
        w.put(Counter, 1, hits=100, generation=kept.generation)
        w.wait_flushed()
        wait_settled(w, Counter, 1)
        assert shown(c, 1).hits == w.rows(Counter)[1,]["hits"] == 112


@pytest.mark.parametrize("cls", [Counter, Item])
def test_a_lost_answer_to_commit_is_applied_once_and_settled(
    writebehind_isolated: Isolation, tmp_path: Path, cls: type[Entity]
) -> None:
    with (
        world(writebehind_isolated, tmp_path, cls) as w,
        client(w) as c,
        w.database_proxy(Postgres) as proxy,
    ):
        total = "hits" if cls is Counter else "stock"
        flusher = w.flusher(**w.through(database=proxy))
        c.update_many(cls, [(1, {total: 1})])
        w.wait_flushed()
        lost = proxy.trap("COMMIT", Moment.BEFORE_REPLY, cut=True)
        for key in range(1, 4):
            c.update_many(cls, [(key, {total: 10})])
        w.wait(lost.hit.is_set, "an answer to COMMIT to be lost")
        w.wait_flushed()
        wait_settled(w, cls, 1, 2, 3)
        assert {key: row[total] for key, row in w.rows(cls).items()} == {(1,): 11, (2,): 10, (3,): 10}
        assert [getattr(c.get(cls, key), total) for key in range(1, 4)] == [11, 10, 10]
        flusher.stop()


def test_a_cache_that_answers_too_late_leaves_no_entry_pending(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with (
        world(writebehind_isolated, tmp_path, Counter) as w,
        client(w) as c,
        w.cache_proxy() as proxy,
    ):
        flusher = w.flusher(**w.through(cache=proxy))
        c.add(Counter, 1, hits=1)
        wait_settled(w, Counter, 1)
        proxy.refusing = True
        proxy.reset()
        c.add(Counter, 1, hits=1)
        w.wait_flushed()
        flusher.wait_log("entries not settled")
        proxy.refusing = False  # and nothing more is written
        wait_settled(w, Counter, 1)
        assert shown(c, 1).hits == w.rows(Counter)[1,]["hits"] == 2


def test_what_a_dead_flusher_did_not_settle_is_mended_by_the_next_owner(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with (
        world(writebehind_isolated, tmp_path, Counter) as w,
        client(w) as c,
        w.cache_proxy(Redis) as cache,
    ):
        c.add(Counter, 1, hits=5)
        w.cache.delete(w.entry(Counter, 1))
        c.add(Counter, 1, hits=7)  # starts from the row, which does not have the 5 yet
        c.update(Counter, 3, note="only this")  # of the same partition, and so of the same batch
        dying = w.flusher(**w.through(cache=cache), WRITEBEHIND_FLUSHER__GROUP=f"{w.corner.group}-1")
        trap = cache.trap("EVALSHA", Moment.BEFORE_REQUEST, dying.kill, cut=True)
        w.wait(trap.hit.is_set, "the settlement")
        dying.exit_code()
        assert w.rows(Counter).keys() == {(1,), (3,)}  # it did commit
        assert shown(c, 1).hits == 7
        c.add(Counter, 1, hits=1)
        assert shown(c, 1).hits == 8  # what is pending is served, whatever else is wrong with the entry
        w.flusher()
        w.wait_flushed()
        wait_settled(w, Counter, 1, 3)
        assert (shown(c, 1).hits, shown(c, 3).note) == (13, "only this")


def test_a_flusher_that_stops_or_idles_leaves_nothing_to_doubt(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    def behind(w: World) -> int:
        [(records,)] = w.query("SELECT COALESCE(sum(next_offset - COALESCE(settled_offset, 0)), 0) FROM {}.progress")
        return int(records)

    with world(writebehind_isolated, tmp_path, Counter) as w, client(w) as c:
        w.execute("INSERT INTO counters (id, hits) VALUES (1, 10), (2, 20)")  # an entry without a row would not stay
        flusher = w.flusher()
        c.add(Counter, 1, hits=5)
        w.wait_flushed()
        w.wait(lambda: behind(w) == 0, "the idle flusher to say that all is settled")
        c.add(Counter, 2, hits=5)
        w.wait(lambda: w.rows(Counter)[2,]["hits"] == 25, "the second write to be flushed")
        flusher.stop()
        assert behind(w) == 0
        held = [w.cache.ttl(w.entry(Counter, key)) for key in (1, 2)]
        w.flusher()
        c.add(Counter, 3, hits=5)
        w.wait_flushed()
        assert all(ttl > 0 for ttl in held)
        assert [w.cache.exists(w.entry(Counter, key)) for key in (1, 2)] == [1, 1]

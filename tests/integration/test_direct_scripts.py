"""The scripts of cache-aside and write-through entities on a real cache, one interleaving after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
import redis

from writebehind.embedded import Isolation
from writebehind.shared import bookkeeping, direct
from writebehind.shared.declaration import declaration_of
from writebehind.shared.direct import Filling, Finishing, Found, How, State
from writebehind.shared.entity import Entity as Declared
from writebehind.shared.entity import Key, Sum, WriteBehind
from writebehind.shared.scripts import Call, EntityScripts, NeedsBase, read_write

LIFE_US = 30_000_000
READER = "reader"


class Thing(Declared, table="things", strategy=WriteBehind()):
    id: Annotated[int, Key]
    hits: Annotated[int, Sum] = 0


class Entry:
    """One entry, and what readers and writers do to it."""

    def __init__(self, url: str, key: str) -> None:
        self.client = redis.Redis.from_url(url)
        self.texts = redis.Redis.from_url(url, decode_responses=True)
        self.key = key

    def run(self, call: Call) -> Any:
        return self.client.eval(call.script.text, len(call.keys), *call.keys, *call.args)

    def read(self, token: str = READER, *, early: float = 0.0, lease_us: int = LIFE_US) -> Found:
        return direct.read_found(self.run(direct.read([self.key], token=token, lease_us=lease_us, early=early)))[0]

    def value(self) -> str | None:
        """What a reader is served, None when it has to ask the database."""
        found = self.read("value")
        return found.fields.get("name", "") if found.state is State.HIT else None

    def fill(self, name: str | None, token: str = READER, *, version: int = 0, load_us: int = 0) -> bool:
        fields = [] if name is None else ["name", name]
        row = Filling(name is not None, version, 60_000, fields, load_us)
        return direct.read_flags(self.run(direct.fill([self.key], [row], token=token)))[0]

    def intend(self, token: str, *, life_us: int = LIFE_US) -> bool:
        return direct.read_flags(self.run(direct.intend([self.key], [token], life_us=life_us)))[0]

    def finish(self, token: str, how: How, name: str = "", version: int = 0) -> bool:
        write = Finishing(token, how, 60_000, version, ["name", name])
        return direct.read_flags(self.run(direct.finish([self.key], [write])))[0]

    def expire(self, part: str) -> None:
        """As if the time of an intent ("iTOKEN") or a lease ("lTOKEN") were over, and the key not yet removed."""
        header = str(self.texts.hget(self.key, "#"))
        parts = [f"{part}:1" if found.startswith(f"{part}:") else found for found in header.split(" ")]
        self.client.hset(self.key, "#", " ".join(parts))


@pytest.fixture
def entry(writebehind_isolated: Isolation) -> Iterator[Entry]:
    made = Entry(writebehind_isolated.cache_url, f"{writebehind_isolated.cache_prefix}:{{thing:1}}")
    with made.client, made.texts:
        yield made


def test_one_reader_loads_and_the_others_wait(entry: Entry) -> None:
    assert entry.read("a").state is State.LOAD
    assert entry.read("b").state is State.WAIT
    assert not entry.fill("from b", "b")
    assert entry.fill("from a", "a")
    assert entry.read("b") == Found(State.HIT, entry.read("c").fields)
    assert entry.value() == "from a"
    assert 0 < int(entry.client.pttl(entry.key)) <= 60_000


def test_a_lease_runs_out(entry: Entry) -> None:
    assert entry.read("a").state is State.LOAD
    entry.expire("la")
    assert entry.read("b").state is State.LOAD
    assert not entry.fill("slow", "a")
    assert entry.fill("quick", "b")


def test_that_there_is_no_row_is_kept_too(entry: Entry) -> None:
    entry.read()
    assert entry.fill(None)
    found = entry.read()
    assert found.state is State.HIT
    assert bookkeeping.of(found.fields).row_exists is False


def test_a_fill_that_was_read_before_an_invalidation_is_refused(entry: Entry) -> None:
    entry.read()
    entry.run(direct.void([entry.key]))
    assert not entry.fill("old")
    assert entry.value() is None


def test_a_fill_under_a_wiped_cache_is_refused(entry: Entry) -> None:
    entry.read()
    entry.client.delete(entry.key)
    assert not entry.fill("old")
    assert entry.client.exists(entry.key) == 0


def test_an_intent_empties_the_entry_and_nobody_fills_until_it_is_cleared(entry: Entry) -> None:
    entry.read("a")
    entry.fill("old", "a")
    entry.read("b", early=1e9)  # about to load anew
    assert entry.intend("w")
    assert entry.read("c") == Found(State.BYPASS, {})
    assert not entry.fill("old", "b")
    entry.finish("w", "drop")
    assert entry.client.exists(entry.key) == 0


def test_a_loading_reader_is_voided_by_an_intent(entry: Entry) -> None:
    entry.read("a")
    entry.intend("w")
    entry.finish("w", "drop")
    assert not entry.fill("old", "a")


def test_each_writer_clears_only_its_own_intent(entry: Entry) -> None:
    entry.intend("w1")
    entry.intend("w2")
    entry.finish("w1", "drop")
    assert entry.read().state is State.BYPASS
    entry.finish("w2", "drop")
    assert entry.read().state is State.LOAD


@pytest.mark.parametrize("order", [("old", "new"), ("new", "old")])
def test_of_two_racing_writers_the_newer_row_is_served_in_both_orders(entry: Entry, order: tuple[str, str]) -> None:
    versions = {"old": 5, "new": 6}
    entry.intend("old")
    entry.intend("new")
    for token in order:
        entry.finish(token, "put", token, versions[token])
    assert entry.value() == "new"


def test_a_naive_set_leaves_the_losers_value_in_one_order(entry: Entry) -> None:
    """What the tutorials do: each writer sets the value after its commit. The row holds "new"."""
    for token in ("new", "old"):
        entry.client.hset(entry.key, mapping={"#": f"{0:016d} {0:016d}c", "name": token})
    assert entry.value() == "old"


def test_a_row_that_was_put_while_others_write_is_served_only_after_the_last_of_them(entry: Entry) -> None:
    entry.intend("w1")
    entry.intend("w2")
    assert not entry.finish("w2", "put", "two", 6)
    assert entry.read().state is State.BYPASS
    assert not entry.finish("w1", "undone")
    assert entry.value() == "two"
    assert int(entry.client.pttl(entry.key)) <= 60_000


def test_a_newer_write_that_may_not_put_takes_the_older_row_away(entry: Entry) -> None:
    entry.intend("w1")
    entry.run(direct.void([entry.key]))
    entry.intend("w2")
    entry.finish("w2", "put", "two", 6)
    entry.finish("w1", "put", "one", 7)
    assert entry.value() is None


@pytest.mark.parametrize("delete_first", [True, False])
def test_a_deleted_row_is_not_put_back_by_a_writer_that_was_there_before(entry: Entry, delete_first: bool) -> None:
    entry.intend("w")
    entry.intend("delete")
    for token in ("delete", "w") if delete_first else ("w", "delete"):
        entry.finish(token, "void" if token == "delete" else "put", "old", 0 if token == "delete" else 5)
    assert entry.value() is None


def test_a_dropped_newer_version_keeps_an_older_writer_from_putting(entry: Entry) -> None:
    entry.intend("w1")
    entry.intend("w2")
    entry.finish("w2", "drop", version=6)
    entry.finish("w1", "put", "one", 5)
    assert entry.value() is None


def test_an_intent_that_ran_out_takes_what_was_put_with_it(entry: Entry) -> None:
    entry.intend("died")
    entry.intend("w")
    entry.finish("w", "put", "old", 5)
    entry.expire("idied")
    assert entry.value() is None


def test_a_writer_whose_intent_ran_out_invalidates_instead_of_putting(entry: Entry) -> None:
    entry.intend("slow")
    entry.expire("islow")
    entry.read("r")
    entry.fill("old", "r")
    entry.finish("slow", "put", "new", 7)
    assert entry.value() is None


def test_a_writer_may_not_put_when_another_died_while_it_wrote(entry: Entry) -> None:
    entry.intend("died")
    entry.intend("w")
    entry.expire("idied")
    entry.finish("w", "put", "older", 8)
    assert entry.value() is None


def test_a_writer_that_came_after_another_died_may_put(entry: Entry) -> None:
    entry.intend("died")
    entry.expire("idied")
    entry.intend("w")
    entry.finish("w", "put", "new", 8)
    assert entry.value() == "new"


def test_after_a_wiped_cache_a_writer_leaves_a_miss(entry: Entry) -> None:
    entry.intend("w")
    entry.client.delete(entry.key)
    entry.read("r")
    entry.fill("old", "r")
    entry.finish("w", "put", "new", 7)
    assert entry.value() is None


def test_a_write_that_was_undone_leaves_others_alone(entry: Entry) -> None:
    entry.read("r")
    entry.fill("row", "r")
    entry.finish("w", "undone")
    assert entry.value() == "row"
    entry.intend("w")
    entry.finish("w", "undone")
    assert entry.client.exists(entry.key) == 0


def test_an_entry_is_loaded_anew_shortly_before_it_expires_by_one_reader(entry: Entry) -> None:
    entry.read("a")
    entry.fill("row", "a", load_us=1_000)
    assert entry.read("b", early=1.0).state is State.HIT  # a minute is left
    found = entry.read("b", early=1e6)
    assert (found.state, found.fields["name"]) == (State.LOAD, "row")
    assert entry.read("c", early=1e6).state is State.HIT
    assert entry.fill("newer", "b", load_us=1_000)
    assert entry.value() == "newer"


def test_many_entries_in_one_call(entry: Entry) -> None:
    keys = [f"{entry.key}{n}" for n in range(100)]
    entry.run(direct.intend(keys[:50], ["w"] * 50, life_us=LIFE_US))
    found = direct.read_found(entry.run(direct.read(keys, token="t", lease_us=LIFE_US)))
    assert [one.state for one in found] == [State.BYPASS] * 50 + [State.LOAD] * 50
    rows = [Filling(True, 0, 1000, ["name", str(n)]) for n in range(100)]
    filled = direct.read_flags(entry.run(direct.fill(keys, rows, token="t")))
    assert filled == [False] * 50 + [True] * 50


VERSIONS = f"{1_700_000_000_000_000:016d} {1_600_000_000_000_000:016d}"


@pytest.mark.parametrize("rest", ["c1", "c12 =abc", "n1", "P", "C =abc", "p2"])
def test_what_an_entity_left_that_was_written_behind_before_is_loaded_anew(entry: Entry, rest: str) -> None:
    entry.client.hset(entry.key, mapping={"#": f"{VERSIONS}{rest}", "name": "pending, or to be mended", "more": "x"})
    assert entry.read() == Found(State.LOAD, {})
    assert entry.fill("the row")
    assert entry.value() == "the row"
    assert not entry.client.hexists(entry.key, "more")


@pytest.mark.parametrize("rest", ["c", "c =abc", "n"])
def test_what_it_left_whole_is_served(entry: Entry, rest: str) -> None:
    entry.client.hset(entry.key, mapping={"#": f"{VERSIONS}{rest}", "name": "the row"})
    assert entry.value() == "the row"


@pytest.mark.parametrize("sort", ["x", "i", "j"])
def test_what_a_direct_entity_left_is_no_lease_of_one_that_is_written_behind(entry: Entry, sort: str) -> None:
    entry.client.hset(entry.key, "#", f"{VERSIONS}p {sort}1700000000000000:1700000000000000")
    increment = EntityScripts(declaration_of(Thing)).write([entry.key], [[1, "1"]], seen=0, token="t", lease_us=LIFE_US)
    _, answers = read_write(entry.run(increment))
    assert answers == [NeedsBase("t")], "to load the row is left to us"

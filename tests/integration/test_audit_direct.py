"""The audit of cache-aside and write-through entities: drift beside their writes, and what waits in Kafka."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.direct_world import MODULE, Aside, Page, Through, direct_world
from tests.integration.flusher_process import TIMEOUT_S, Flusher, run_command, wait_until
from tests.integration.guarded import OPERATOR
from tests.integration.producer_world import World
from writebehind.embedded import Isolation
from writebehind.flusher.audit.options import Options, Repair
from writebehind.flusher.audit.run import Result, audit
from writebehind.flusher.audit.suspects import Patience
from writebehind.producer import Client
from writebehind.producer.invalidator import Invalidator
from writebehind.shared import naming
from writebehind.shared.invalidation import Invalidation
from writebehind.shared.registry import Registry

LIVE = range(21, 41)
ENTITIES = (Aside, Through, Page)


@pytest.fixture
def here(writebehind_isolated: Isolation) -> Iterator[World]:
    with direct_world(writebehind_isolated, flusher={"group": writebehind_isolated.group}) as made:
        yield made


def audited(here: World, *, wait_s: float = 30.0, **options: Any) -> Result:
    registry = Registry(ENTITIES)
    given = Options(tuple(d.name for d in registry), keys_per_s=0, patience=Patience(1.0, 2.0, wait_s), **options)
    role = OPERATOR if options.get("apply") else "auditor"
    with audit(here.settings_of(role), registry, given) as job:
        return job.run(lambda *_: None, resume=False)


def found(here: World, result: Result) -> dict[tuple[str, str], str]:
    schema = here.settings.database.schema_
    rows = here.execute(f'SELECT entity, key, verdict FROM "{schema}".audit_finding WHERE run = %s', result.run)
    return {(entity, key): verdict for entity, key, verdict in rows}


@contextmanager
def live_writes(here: World) -> Iterator[None]:
    """Both are written and read, as fast as it goes."""
    stop, rounds = threading.Event(), itertools.count(1)
    written = 0

    def write() -> None:
        nonlocal written
        with Client.open(here.settings) as client:
            while not stop.is_set():
                written = next(rounds)
                for key in LIVE:
                    for cls in (Aside, Through):
                        client.update(cls, key, name=f"n{written}")
                        client.get(cls, key)

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        try:
            wait_until(lambda: written > 1 or writer.done(), "a round of live writes")
            yield
        finally:
            stop.set()
            writer.result(TIMEOUT_S)


def plant(here: World) -> dict[tuple[str, str], str]:
    """Entries that are in sync, and some that are not."""
    with Client.open(here.settings) as client:
        for cls, key in itertools.product((Aside, Through), range(1, 41)):
            client.create(cls, key, name=f"n{key}")
            client.get(cls, key)
        client.get(Page, ("a", "b"))  # there is none
    here.execute("INSERT INTO pages VALUES ('a', 'b', 'made by hand')")
    for table in ("asides", "throughs_direct"):
        here.execute(f"UPDATE {table} SET name = 'by hand' WHERE id = 1")
        here.execute(f"DELETE FROM {table} WHERE id = 2")
    here.execute("UPDATE throughs_direct SET name = 'newer', version = version + 1 WHERE id = 3")
    with redis.Redis.from_url(here.corner.cache_url) as cache:
        cache.hset(naming.cache_key(here.settings.cache.prefix, "aside", "3"), "name", "flipped")
    return {
        ("aside", "1"): "differs",
        ("aside", "2"): "orphan",
        ("aside", "3"): "differs",
        ("through", "1"): "differs",
        ("through", "2"): "orphan",
        ("through", "3"): "stale",
        ("page", "a|b"): "stale",
    }


def test_drift_of_direct_entries_is_found_among_their_writes_and_repaired(here: World) -> None:
    planted = plant(here)
    with live_writes(here):
        first = audited(here, repair=Repair.AUTO, apply=True)
        assert found(here, first) == planted
        assert first.entities["aside"]["repairs"] == {"invalidated": 3}
        second = audited(here)
        assert (found(here, second), second.code) == ({}, 0)
    assert first.entities["aside"]["compared"] >= 20
    with Client.open(here.settings) as client:
        assert getattr(client.get(Page, ("a", "b")), "title", None) == "made by hand"
        assert client.get(Aside, 2) is None
    rows = audited(here, from_database=True)
    assert (rows.code, rows.entities["through"]["compared"] > 0) == (0, True)


def write_of_somebody(here: World, key: str, until_us: int = 2**52) -> None:
    """Who could not reach the cache, and may commit until then."""
    invalidator = Invalidator(here.settings)
    assert invalidator.send([Invalidation("aside", key, "t", until_us)], TIMEOUT_S)
    invalidator.close()


def whereis(here: World, *arguments: str, code: int = 0) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(
        run_command(here.env_of("auditor"), "whereis", *arguments, "--json", "--entities", MODULE, code=code)
    )
    return told


def test_what_waits_in_kafka_is_pending_until_a_flusher_has_carried_it_out(here: World, tmp_path: Path) -> None:
    with Client.open(here.settings) as client:
        client.create(Aside, 1, name="old")
        client.get(Aside, 1)
    here.execute("INSERT INTO throughs_direct (id, version) VALUES (1, 1)")
    here.execute("INSERT INTO pages VALUES ('a', 'b', 'c')")
    write_of_somebody(here, "1", until_us=1)
    here.execute("UPDATE asides SET name = 'new'")
    result = audited(here, wait_s=2.0)
    assert (found(here, result), result.entities["aside"]["verdicts"]["pending"]) == ({}, 1)
    told = whereis(here, "aside", "1")
    assert told["conclusion"] == "pending: 1 invalidation of it waits in Kafka to be carried out"
    assert (told["verdict"], told["differing"], len(told["kafka"]["records"])) == ("pending", ["name"], 1)
    assert whereis(here, "through", "1")["conclusion"] == "not cached: readers get the row"
    assert whereis(here, "page", "a|c")["conclusion"] == "not cached: there is no row either"
    flusher = Flusher(here.env_of("flusher"), [MODULE], tmp_path / "log")
    try:
        wait_until(lambda: here.entry(Aside, "1") == {}, "the invalidation")
        with Client.open(here.settings) as client:
            client.get(Aside, 1)
        here.execute("UPDATE asides SET name = 'by hand'")
        assert found(here, audited(here)) == {("aside", "1"): "differs"}
        told = whereis(here, "aside", "1", code=1)
        assert (told["verdict"], told["kafka"]["records"], told["audit"]["verdict"]) == ("differs", [], "differs")
        write_of_somebody(here, "1")
        under_way = "readers get the row: a write is under way, or its writer has died"
        wait_until(lambda: whereis(here, "aside", "1")["conclusion"].startswith(under_way), "the intent")
    finally:
        flusher.stop()

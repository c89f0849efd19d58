"""What reaches the cache by way of Kafka, and by hand: a flusher, and the command `writebehind invalidate`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.integration.direct_world import MODULE, Aside, Page, direct_world
from tests.integration.flusher_process import Flusher, wait_until
from tests.integration.guarded import Guarded
from tests.integration.producer_world import World
from tests.zygote import run
from writebehind.embedded import Isolation
from writebehind.producer import Client
from writebehind.producer.invalidator import Invalidator
from writebehind.shared import bookkeeping
from writebehind.shared.invalidation import Invalidation

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(writebehind_isolated: Isolation) -> Iterator[World]:
    with direct_world(writebehind_isolated) as made:
        yield made


def cached(here: World, *keys: int) -> None:
    """Rows of Aside, in the cache as well."""
    with Client.open(here.settings) as client:
        for key in keys:
            client.create(Aside, key, name=f"n{key}")
            client.get(Aside, key)


def command(here: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "writebehind.flusher", "invalidate", *arguments, "--entities", MODULE]
    return run(line, cwd=ROOT, env=here.env_of("producer"), timeout=60)


def test_a_flusher_carries_out_intents_and_invalidations(here: World, tmp_path: Path) -> None:
    cached(here, 1, 2, 3)
    invalidator = Invalidator(here.settings)
    later_us = time.time_ns() // 1000 + 60_000_000
    first = [
        Invalidation("aside", "1", "t1", later_us),
        Invalidation("aside", "2", "t2", 1),
        Invalidation("aside", "3", "t3", later_us),
    ]
    assert invalidator.send(first, 30)
    flusher = Flusher(here.env_of("flusher"), [MODULE], tmp_path / "log")
    try:
        wait_until(lambda: bookkeeping.of(here.entry(Aside, "1")).intents == 1, "the intent")
        wait_until(lambda: here.entry(Aside, "2") == {}, "the invalidation of a writer whose time is over")
        assert invalidator.send([Invalidation("aside", "1", "t1")], 30)
        wait_until(lambda: here.entry(Aside, "1") == {}, "the end of the intent")
        assert bookkeeping.of(here.entry(Aside, "3")).intents == 1
    finally:
        invalidator.close()
        flusher.stop()


def test_what_is_no_invalidation_is_skipped_and_said(here: World, tmp_path: Path) -> None:
    cached(here, 1)
    invalidator = Invalidator(here.settings)
    invalidator._opened().produce(invalidator.topic, b"\xff", b"aside:1")
    assert invalidator.send([Invalidation("aside", "1", "t")], 30)
    flusher = Flusher(here.env_of("flusher"), [MODULE], tmp_path / "log")
    try:
        wait_until(lambda: here.entry(Aside, "1") == {}, "the invalidation after it")
        flusher.wait_log("is not an invalidation")
    finally:
        invalidator.close()
        flusher.stop()


def test_an_invalidation_is_tried_until_the_cache_answers(breakable_stack: Guarded, tmp_path: Path) -> None:
    with breakable_stack.corner() as isolation, direct_world(isolation) as here:
        cached(here, 1)
        flusher = Flusher(here.env_of("flusher"), [MODULE], tmp_path / "log").wait_ready()
        invalidator = Invalidator(here.settings)
        try:
            breakable_stack.valkey.pause()
            try:
                assert invalidator.send([Invalidation("aside", "1", "t")], 30)
                flusher.wait_log("invalidations wait for the cache")
            finally:
                breakable_stack.valkey.resume()
            wait_until(lambda: here.entry(Aside, "1") == {}, "the invalidation")
        finally:
            invalidator.close()
            flusher.stop()


def members(here: World) -> list[int]:
    """How many partitions of the invalidations each flusher has."""
    group = f"{here.corner.group}-invalidations"
    admin = AdminClient({"bootstrap.servers": here.corner.bootstrap_servers})
    try:
        found = admin.describe_consumer_groups([group], request_timeout=30)[group].result()
    except KafkaException:
        return []  # the group is being made
    return [len(member.assignment.topic_partitions) for member in found.members]


def test_what_a_killed_flusher_held_is_carried_out_when_its_session_is_over(here: World, tmp_path: Path) -> None:
    cached(here, *range(20))
    env = here.env_of("flusher", WRITEBEHIND_FLUSHER__SESSION_TIMEOUT_S="6")
    flushers = [Flusher(env, [MODULE], tmp_path / f"log{number}") for number in range(2)]
    invalidator = Invalidator(here.settings)
    try:
        wait_until(lambda: len(found := members(here)) == 2 and all(found), "partitions for both")
        flushers[0].kill()
        assert invalidator.send([Invalidation("aside", str(key), "t") for key in range(20)], 30)
        # A broker's own session time-out is 45 s, for which readers would be told old rows.
        gone_s = 40.0
        wait_until(lambda: all(here.entry(Aside, str(key)) == {} for key in range(20)), "the invalidations", gone_s)
    finally:
        invalidator.close()
        flushers[1].stop()


def test_entries_are_forgotten_by_key(here: World) -> None:
    cached(here, 1, 2)
    done = command(here, "aside", "1", "99", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"entity": "aside", "invalidated": 2}), done.stderr
    assert here.entry(Aside, "1") == {}
    assert here.entry(Aside, "2") != {}


def test_entries_are_forgotten_by_condition(here: World) -> None:
    cached(here, 1, 2, 3)
    with Client.open(here.settings) as client:
        client.create(Page, ("a|b", "c%"), title="x")
        client.get(Page, ("a|b", "c%"))
    done = command(here, "aside", "--where", "name IN ('n1', 'n3') AND name NOT LIKE '%x'")
    assert (done.returncode, done.stdout) == (0, "2 entries of aside forgotten\n"), done.stderr
    assert [here.entry(Aside, str(key)) == {} for key in (1, 2, 3)] == [True, False, True]
    assert command(here, "page", "--where", "true").returncode == 0
    assert here.entry(Page, "a%7Cb|c%25") == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["aside"], "name the keys"),
        (["aside", "1", "--where", "true"], "not both"),
        (["aside", "1", "x"], "not a key of aside"),
        (["page", "a"], "not a key of page"),
        (["nothing", "1"], "unknown entity"),
        (["aside", "--where", "nme = 1"], "42703"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_forgotten(here: World, arguments: list[str], said: str) -> None:
    cached(here, 1)
    done = command(here, *arguments)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert here.entry(Aside, "1") != {}

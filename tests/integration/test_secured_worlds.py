"""The tests here are of roles over TLS, as long as the parts that they start do come so: here they are asked for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import redis

from tests.integration.audit_world import run
from tests.integration.flusher_entities import Counter, Strict
from tests.integration.flusher_process import run_command, wait_until
from tests.integration.flusher_producer import client
from tests.integration.flusher_world import world
from tests.integration.guarded import Corner
from tests.integration.letters_world import letters
from tests.integration.producer_world import Player
from tests.integration.producer_world import world as producer_world
from tests.integration.rights import take_acls
from writebehind.producer import AsyncClient, NotApplied

SESSIONS = """
SELECT usename, bool_and(ssl) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)
WHERE application_name LIKE 'writebehind%' GROUP BY usename
"""


def sessions(corner: Corner) -> dict[str, bool]:
    """As whom parts of the product are connected to the database, and whether all their sessions use TLS."""
    with psycopg.connect(corner.database_url) as connection:
        return dict(connection.execute(SESSIONS).fetchall())


def users(corner: Corner) -> set[str]:
    """As whom parts of the product are connected to the cache; the test's own connections have no name."""
    with redis.Redis.from_url(corner.cache_url) as cache:
        return {one["user"] for one in cache.client_list() if one["name"]}


@contextmanager
def locked_out(corner: Corner, role: str) -> Iterator[None]:
    """Of the database."""
    with psycopg.connect(corner.database_url, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE writebehind_{role} NOLOGIN".encode())
        try:
            yield
        finally:
            connection.execute(f"ALTER ROLE writebehind_{role} LOGIN".encode())


def test_flushers_services_and_audits_come_as_their_roles(writebehind_isolated: Corner, tmp_path: Path) -> None:
    corner, both = writebehind_isolated, {"writebehind_flusher", "writebehind_producer"}
    with world(corner, tmp_path, Counter) as w, client(w) as c:
        w.flusher()
        assert c.add(Counter, 1, hits=1).flushed(timeout_s=60)
        assert sessions(corner) == dict.fromkeys(both, True)
        wait_until(lambda: users(corner) == both, f"the cache to have these users alone: {both}")
        with locked_out(corner, "auditor"):
            ran = run(w, "audit")
            assert (ran.code, "the database cannot be used" in ran.err) == (2, True), ran.err
        take_acls(corner)
        with pytest.raises(NotApplied):
            c.add(Counter, 1, hits=1)


async def test_the_services_of_the_producers_tests_too(writebehind_isolated: Corner) -> None:
    corner = writebehind_isolated
    with producer_world(corner) as here:
        async with AsyncClient.open(here.settings) as service:
            assert await service.get(Player, 1) is None
            await service.update(Player, 1, name="Ada")
            assert sessions(corner) == {"writebehind_producer": True}
            assert users(corner) == {"writebehind_producer"}
            take_acls(corner)
            with pytest.raises(NotApplied):
                await service.update(Player, 1, name="x")
        for role in ("flusher", "auditor", "migrator"):
            assert f"writebehind_{role}:" in here.settings_of(role).database.url.get_secret_value()


def test_what_is_an_operators_is_refused_to_every_role(writebehind_isolated: Corner, tmp_path: Path) -> None:
    with letters(writebehind_isolated, tmp_path, Strict) as made:
        w = made.world
        place = made.put(Strict, 1, amount=5)
        w.put(Strict, 2, partition=0, amount=1)
        flusher = w.flusher()
        w.wait_flushed()
        flusher.stop()
        before = made.states(), w.progress(Strict)
        replay, discard = ("letters", "replay", "--apply"), ("letters", "discard", place, "--yes")
        move = ("progress", "set", w.topic(Strict), "0", "--offset", "0", "--yes", "--repeat")
        for role, commands in {
            "producer": (replay, discard, move),
            "flusher": (replay, discard),  # whose work it is to move progress
            "auditor": (replay, discard, move),
        }.items():
            env = w.env_of(role, WRITEBEHIND_ENTITIES=f"{Strict.__module__}:Strict")
            for command in commands:
                run_command(env, *command, code=2)
        assert (made.states(), w.progress(Strict)) == before

"""`writebehind grants` on real servers: with these rights each part does its work, and can do nothing else."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from redis.exceptions import AuthenticationError, NoPermissionError

from tests.integration.flusher_entities import Item
from tests.integration.flusher_process import Flusher, run_command, wait_until
from tests.integration.guarded import Guarded
from tests.integration.logins import kafka_login
from tests.integration.mixed_world import Badges, Billing, Notes, Profile, Visits
from tests.integration.roles_world import MODULES, Roles, execute, roles
from writebehind.producer import Client, Unknown
from writebehind.shared import naming
from writebehind.shared.declaration import declaration_of
from writebehind.shared.entity import Entity

NOWHERE = "127.0.0.1:1"


@pytest.fixture(scope="module")
def world(writebehind_stack: Guarded) -> Iterator[Roles]:
    with roles(writebehind_stack) as made:
        yield made


@pytest.fixture
def flusher(world: Roles, tmp_path: Path) -> Iterator[Flusher]:
    started = Flusher(world.env("flusher"), MODULES, tmp_path / "flusher.log")
    try:
        yield started
    finally:
        started.close()


def test_each_part_does_its_work_with_the_rights_it_was_given(world: Roles, flusher: Flusher) -> None:
    with Client.open(world.settings("producer")) as client:
        client.create(Profile, 1, name="Ada")
        client.create(Billing, 2, status="trial")
        client.update(Profile, 1, name="Ada L")
        client.delete(Billing, 2)
        client.update(Badges, 77, stars=1)  # there is no row: a letter
        client.update(Item, 5, title="gone", stock=3)
        receipts = [
            client.update(Visits, 1, views=2, page="home"),
            client.update(Badges, 1, stars=3),
            client.update(Notes, 1, note="hello"),
            client.update(Item, 6, title="kept", stock=4),
            client.delete(Item, 5),
        ]
        flusher.wait_ready()
        assert all(receipt.flushed(timeout_s=60) for receipt in receipts), flusher.log
        assert client.get(Profile, 1) == Profile(id=1, name="Ada L")
    people = world.execute("SELECT name, views, page, stars, note FROM people ORDER BY id")
    assert people == [("Ada L", 2, "home", 3, "hello")]
    assert world.execute("SELECT id, stock FROM items") == [(6, 4)]
    wait_until(lambda: world.execute("SELECT entity FROM {}.letter") == [("badges",)], "the letter")

    _without_the_cache(world)
    _without_the_broker(world)

    with Client.open(world.settings("producer")) as client:
        assert client.get(Profile, 1) is not None
    world.execute("UPDATE people SET name = 'by hand' WHERE id = 1")
    soon = {**world.env("auditor"), "WRITEBEHIND_PRODUCER__DELIVERY_TIMEOUT_S": "1"}
    audited = json.loads(run_command(soon, "audit", "--confirm", "0.5", "--json", code=1))
    drift = {name: told["drift"] for name, told in audited["entities"].items()}
    assert drift == {"profile": 1, "billing": 0, "visits": 0, "badges": 0, "notes": 1, "item": 0}, (
        "what no broker took is lost, letters were read, and how far invalidations are carried out"
    )
    assert "42501" not in flusher.log
    assert "NOPERM" not in flusher.log
    assert "AUTHORIZATION" not in flusher.log


def _without_the_cache(world: Roles) -> None:
    """The entry leaves the cache by way of Kafka and the flusher."""
    with Client.open(world.settings("producer")) as client:
        assert client.get(Profile, 1) is not None
    entry = _entry(world, Profile, "1")
    with redis.Redis.from_url(world.corner.cache_url) as cache:
        assert cache.exists(entry)
        with Client.open(world.settings("producer", cache={"url": f"rediss://{NOWHERE}/0"})) as client:
            client.update(Profile, 1, name="Countess")
        wait_until(lambda: not cache.exists(entry), "the invalidation to be carried out")


def _without_the_broker(world: Roles) -> None:
    """The row is written at once."""
    quick = {"timeout_s": 1.0, "broker_down_after_s": 0.2, "close_timeout_s": 0.5}
    with Client.open(world.settings("producer", kafka={"bootstrap_servers": NOWHERE}, producer=quick)) as client:
        with pytest.raises(Unknown):
            client.update(Notes, 1, note="waits")  # now it is known to be down
        client.update(Badges, 1, stars=2)
    assert world.execute("SELECT stars FROM people WHERE id = 1") == [(5,)]


def test_a_topic_that_may_not_be_seen_is_not_told_to_be_empty(world: Roles) -> None:
    elsewhere = {**world.env("flusher"), "WRITEBEHIND_KAFKA__TOPIC_PREFIX": "others."}
    assert "TOPIC_AUTHORIZATION_FAILED" in run_command(elsewhere, "status", code=2)


DENIED_SQL = {
    "producer": (
        "INSERT INTO items (id) VALUES (9)",
        "UPDATE items SET stock = 0",
        "DELETE FROM items",
        "UPDATE people SET views = 0",  # write-behind, and not through
        "SELECT secret FROM people",
        "SELECT owner FROM {}.progress",
        "UPDATE {}.progress SET next_offset = 0",
        "SELECT FROM {}.letter",
        "SELECT FROM {}.tombstone",
        "SELECT FROM {}.audit_finding",
        "CREATE TABLE {}.mine ()",
    ),
    "flusher": (
        "UPDATE people SET name = ''",  # cache-aside
        "UPDATE people SET status = ''",  # write-through
        "DELETE FROM people",
        "TRUNCATE items",
        "SELECT secret FROM items",
        "SELECT name FROM people",
        "DELETE FROM {}.progress",
        "UPDATE {}.letter SET state = 'discarded'",
        "UPDATE {}.slot SET slot = 1",
        "SELECT FROM {}.audit_run",
        "CREATE TABLE {}.mine ()",
        "ALTER TABLE items ADD mine int",
    ),
    "auditor": (
        "INSERT INTO items (id) VALUES (9)",
        "UPDATE items SET stock = 0",
        "UPDATE people SET name = ''",
        "DELETE FROM people",
        "SELECT id FROM people FOR UPDATE",
        "SELECT secret FROM people",
        "UPDATE {}.progress SET next_offset = 0",
        "UPDATE {}.letter SET state = 'discarded'",
        "CREATE TABLE {}.mine ()",
    ),
    "migrator": (
        "SELECT name FROM people",
        "UPDATE items SET stock = 0",
        "ALTER TABLE items ADD mine int",
    ),
}


def test_no_role_reads_or_writes_what_is_not_its_business_in_the_database(world: Roles) -> None:
    for role, statements in DENIED_SQL.items():
        url = world.env(role)["WRITEBEHIND_DATABASE__URL"]
        for statement in statements:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                execute(url, statement, world.corner.bookkeeping_schema)


def test_a_producer_without_direct_entities_writes_no_row_at_all(world: Roles) -> None:
    only = {**world.env("migrator"), "WRITEBEHIND_ENTITIES": MODULES[1]}
    (told,) = json.loads(run_command(only, "grants", "--role", "producer", "--json"))["roles"]
    assert {line.split()[1] for line in told["sql"] if line.startswith("GRANT")} == {"USAGE", "SELECT"}


DENIED_COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "producer": (("FLUSHALL",), ("KEYS", "*"), ("SCAN", "0"), ("CONFIG", "SET", "maxmemory", "0"), ("ACL", "LIST")),
    "flusher": (("FLUSHALL",), ("KEYS", "*"), ("SCAN", "0"), ("CONFIG", "GET", "*"), ("SHUTDOWN",)),
    "auditor": (("FLUSHALL",), ("DEL", "ours"), ("HSET", "ours", "f", "1"), ("EVAL", "return 1", "0")),
}


def test_no_role_does_what_is_not_its_business_in_the_cache(world: Roles) -> None:
    ours, theirs = f"{world.corner.cache_prefix}:{{item:1}}", f"{world.corner.cache_prefix}x:{{item:1}}"
    for role, commands in DENIED_COMMANDS.items():
        with redis.Redis.from_url(world.env(role)["WRITEBEHIND_CACHE__URL"]) as cache:
            assert cache.hmget(ours, ["f"]) == [None]
            for command in (*commands, ("HMGET", theirs, "f")):
                with pytest.raises(NoPermissionError):
                    cache.execute_command(*[ours if word == "ours" else word for word in command])


def test_a_new_user_of_the_cache_cannot_log_in_before_it_has_a_password(world: Roles) -> None:
    told = run_command(
        world.env("producer"), "grants", "--role", "producer", "--name", "producer=new", "--only", "cache"
    )
    with redis.Redis.from_url(world.corner.cache_url) as cache:
        cache.execute_command(*shlex.split(told))
    for password in ("", "new", "any"):
        with (
            redis.Redis.from_url(world.corner.cache_url, username="new", password=password) as cache,
            pytest.raises(AuthenticationError),
        ):
            cache.ping()


def test_no_role_does_what_is_not_its_business_in_kafka(world: Roles) -> None:
    topic = naming.topic(world.corner.topic_prefix, "item")
    letters = naming.dead_letter_topic(topic)
    assert _produce(world, "producer", topic) is None
    for role, name in (("producer", letters), ("flusher", topic), ("auditor", topic), ("auditor", letters)):
        assert _produce(world, role, name) == KafkaError.TOPIC_AUTHORIZATION_FAILED, (role, name)
    assert _consume(world, "auditor", topic) is None
    assert _consume(world, "auditor", naming.invalidations_topic(world.corner.topic_prefix)) is None
    for role, name in (("producer", topic), ("flusher", letters), ("migrator", topic)):
        assert _consume(world, role, name) == KafkaError.TOPIC_AUTHORIZATION_FAILED, (role, name)
    for role in ("producer", "flusher", "auditor"):
        admin = AdminClient(_login(world, role))
        with pytest.raises(KafkaException) as raised:
            admin.create_topics([NewTopic(f"{topic}.new", 1, 1)])[f"{topic}.new"].result(30)
        assert raised.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
        with pytest.raises(KafkaException) as raised:
            admin.delete_topics([topic])[topic].result(30)
        assert raised.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


def _login(world: Roles, role: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": world.servers.guarded_bootstrap_servers,
        "log_level": 2,
        **kafka_login(f"writebehind_{role}", world.servers.authority),
    }


def _produce(world: Roles, role: str, topic: str) -> int | None:
    """The code of the error that a record ends with."""
    ended: list[Any] = []
    producer = Producer({**_login(world, role), "message.timeout.ms": 30_000})
    producer.produce(topic, b"x", on_delivery=lambda error, _message: ended.append(error))
    producer.flush(60)
    return None if ended[0] is None else int(ended[0].code())


def _consume(world: Roles, role: str, topic: str) -> int | None:
    consumer = Consumer(
        {
            **_login(world, role),
            "group.id": "writebehind-look",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        while True:
            message = consumer.poll(60)
            assert message is not None
            error = message.error()
            if error is None or error.code() == KafkaError._PARTITION_EOF:
                return None
            if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                return KafkaError.TOPIC_AUTHORIZATION_FAILED
    finally:
        consumer.close()


def _entry(world: Roles, cls: type[Entity], key_text: str) -> str:
    return naming.cache_key(world.corner.cache_prefix, declaration_of(cls).name, key_text)

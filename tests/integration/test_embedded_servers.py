"""One running stack: each server by itself stopped, killed, frozen and started again, and a corner for each test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from psycopg import sql

from writebehind.embedded import EmbeddedError, Isolation, Stack, isolated

#: What a user of the plugin writes; run with the settings of servers that are there.
USERS_TEST = """
import psycopg, redis
from writebehind.embedded import ExistingServers

def test_first(writebehind_stack, writebehind_isolated):
    assert isinstance(writebehind_stack, ExistingServers)
    with psycopg.connect(writebehind_isolated.database_url) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS a")
    redis.Redis.from_url(writebehind_isolated.cache_url).set(f"{writebehind_isolated.cache_prefix}:a", 1)

def test_second(writebehind_isolated):
    with psycopg.connect(writebehind_isolated.database_url) as connection:
        assert connection.execute("SELECT to_regclass('t')").fetchone() == (None,)
    assert not redis.Redis.from_url(writebehind_isolated.cache_url).keys(f"{writebehind_isolated.cache_prefix}*")
"""
QUIET = {"log_level": 0}
TIMEOUT_S = 30


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A stack of this module's own: the tests break its servers."""
    with Stack(fsync=False, appendonly=True) as running:
        yield running


@pytest.fixture
def corner(stack: Stack) -> Iterator[Isolation]:
    with isolated(stack.env()) as corner:
        yield corner


def topics(stack: Stack) -> set[str]:
    client = AdminClient({"bootstrap.servers": stack.kafka.bootstrap_servers, **QUIET})
    return set(client.list_topics(timeout=TIMEOUT_S).topics)


def create_topic(stack: Stack, name: str) -> None:
    client = AdminClient({"bootstrap.servers": stack.kafka.bootstrap_servers, **QUIET})
    for created in client.create_topics([NewTopic(name, 1, 1)]).values():
        created.result(TIMEOUT_S)


def produce(stack: Stack, topic: str, value: str) -> None:
    failures: list[object] = []
    producer = Producer({"bootstrap.servers": stack.kafka.bootstrap_servers, "acks": "all", **QUIET})
    producer.produce(topic, value, on_delivery=lambda error, _: failures.append(error))
    assert producer.flush(TIMEOUT_S) == 0
    assert failures == [None]


def end_offset(stack: Stack, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": stack.kafka.bootstrap_servers, "group.id": "none", **QUIET})
    try:
        _, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=TIMEOUT_S)
        return int(high)
    finally:
        consumer.close()


def test_the_servers_are_the_real_ones(stack: Stack) -> None:
    with psycopg.connect(stack.postgres.url) as connection:
        version = connection.info.server_version
        encoding, max_connections, sockets = connection.execute(
            "SELECT current_setting('server_encoding'), current_setting('max_connections'),"
            " current_setting('unix_socket_directories')"
        ).fetchone() or ("", "", "")
    with redis.Redis.from_url(stack.valkey.url) as cache:
        facts, policy = cache.info("server"), cache.config_get("maxmemory-policy")

    assert version // 10000 == 18
    assert (encoding, int(max_connections), sockets) == ("UTF8", 200, "")
    assert facts["valkey_version"].startswith("9.")
    assert policy == {"maxmemory-policy": "noeviction"}
    assert all(server.running for server in stack.servers)


def test_postgres_keeps_committed_rows_over_kill_and_stop_on_the_same_port(stack: Stack, corner: Isolation) -> None:
    with psycopg.connect(corner.database_url) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS a")
    url, first = stack.postgres.url, stack.postgres.pid

    stack.postgres.kill()
    assert not stack.postgres.running
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=5)
    stack.postgres.start()
    stack.postgres.restart()

    assert (stack.postgres.url, stack.postgres.pid != first) == (url, True)
    with psycopg.connect(corner.database_url) as connection:
        assert connection.execute("SELECT a FROM t").fetchall() == [(1,)]


def test_a_kill_takes_the_backends_along(stack: Stack) -> None:
    with psycopg.connect(stack.postgres.url) as connection:
        backend = connection.info.backend_pid
        # Frozen, the backend cannot notice by itself that its server is gone.
        stack.postgres.pause()
        stack.postgres.kill()
        with pytest.raises(ProcessLookupError):
            os.kill(backend, 0)
    stack.postgres.start()


def test_a_paused_postgres_answers_nobody_not_even_on_an_open_connection(stack: Stack) -> None:
    with psycopg.connect(stack.postgres.url) as connection:
        stack.postgres.pause()
        try:
            assert stack.postgres.running
            status = Path(f"/proc/{connection.info.backend_pid}/stat").read_text()
            assert status.split()[2] == "T"
            with pytest.raises(EmbeddedError, match="did not answer"):
                stack.postgres.wait_ready(0.1)
        finally:
            stack.postgres.resume()
        stack.postgres.wait_ready()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_valkey_keeps_what_it_acknowledged_when_killed(stack: Stack, corner: Isolation) -> None:
    key = f"{corner.cache_prefix}:a"
    with redis.Redis.from_url(stack.valkey.url) as cache:
        cache.set(key, "1")
    url = stack.valkey.url

    stack.valkey.kill()
    stack.valkey.start()

    assert stack.valkey.url == url
    with redis.Redis.from_url(url) as cache:
        assert cache.get(key) == b"1"


def test_a_paused_valkey_goes_on_and_a_stop_ends_a_paused_one(stack: Stack) -> None:
    stack.valkey.pause()
    hasty = redis.Redis.from_url(stack.valkey.url, socket_timeout=0.2, retry=None)
    with hasty, pytest.raises(redis.TimeoutError):
        hasty.ping()
    stack.valkey.resume()
    stack.valkey.wait_ready()

    stack.valkey.pause()
    stack.valkey.stop()

    assert not stack.valkey.running
    stack.valkey.start()


def test_kafka_keeps_acknowledged_records_over_kill_pause_and_stop(stack: Stack, corner: Isolation) -> None:
    topic, address = f"{corner.topic_prefix}a", stack.kafka.bootstrap_servers
    create_topic(stack, topic)
    produce(stack, topic, "before the kill")

    stack.kafka.kill()
    stack.kafka.start()
    assert end_offset(stack, topic) == 1

    stack.kafka.pause()
    with pytest.raises(EmbeddedError, match="did not answer"):
        stack.kafka.wait_ready(0.1)
    stack.kafka.resume()
    stack.kafka.wait_ready()
    produce(stack, topic, "after the pause")

    stack.kafka.restart()
    assert stack.kafka.bootstrap_servers == address
    assert end_offset(stack, topic) == 2


def test_kafka_makes_no_topic_by_itself(stack: Stack, corner: Isolation) -> None:
    missing = f"{corner.topic_prefix}missing"
    client = AdminClient({"bootstrap.servers": stack.kafka.bootstrap_servers, **QUIET})

    client.list_topics(missing, timeout=TIMEOUT_S)

    assert missing not in topics(stack)


def test_a_server_that_does_not_run_cannot_be_paused_and_says_so(stack: Stack) -> None:
    stack.valkey.stop()
    stack.valkey.stop()
    stack.valkey.kill()

    with pytest.raises(EmbeddedError, match="valkey: it is not running"):
        stack.valkey.pause()
    assert stack.valkey.pid is None
    stack.valkey.start()


def test_the_plugin_uses_the_servers_that_the_settings_name(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "test_users_own.py").write_text(USERS_TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]

    done = subprocess.run(command, env=os.environ | stack.env(), capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_a_corner_is_its_own_and_leaves_nothing(stack: Stack) -> None:
    with isolated(stack.env()) as mine, isolated(stack.env()) as other:
        create_topic(stack, f"{mine.topic_prefix}a")
        with psycopg.connect(mine.database_url) as connection:
            connection.execute("CREATE TABLE t AS SELECT 1 AS a")
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(mine.bookkeeping_schema)))
        with redis.Redis.from_url(mine.cache_url) as cache:
            cache.set(f"{mine.cache_prefix}:{{player:1}}", "1")
        with psycopg.connect(other.database_url) as connection:
            seen = connection.execute("SELECT to_regclass('t')").fetchone()
        # A connection that a test forgot must not keep its tables.
        forgotten = psycopg.connect(mine.database_url)
        forgotten.execute("SELECT * FROM t")

    forgotten.close()
    assert seen == (None,)
    assert mine.env == stack.env() | {
        "WRITEBEHIND_DATABASE__URL": mine.database_url,
        "WRITEBEHIND_KAFKA__TOPIC_PREFIX": mine.topic_prefix,
        "WRITEBEHIND_DATABASE__SCHEMA": mine.bookkeeping_schema,
        "WRITEBEHIND_CACHE__PREFIX": mine.cache_prefix,
        "WRITEBEHIND_FLUSHER__GROUP": mine.group,
    }
    assert {mine.schema, mine.topic_prefix, mine.cache_prefix, mine.group}.isdisjoint(
        {other.schema, other.topic_prefix, other.cache_prefix, other.group}
    )
    with psycopg.connect(stack.postgres.url) as connection:
        schemas = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'wb_test_%'").fetchall()
    with redis.Redis.from_url(stack.valkey.url) as cache:
        keys = list(cache.scan_iter(match=f"{mine.cache_prefix}*"))
    assert (schemas, keys) == ([], [])
    assert not any(name.startswith(mine.topic_prefix) for name in topics(stack))

"""`writebehind status` and `writebehind migrate` on real servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Annotated

import psycopg
import pytest
from confluent_kafka import Producer

from writebehind.embedded import Isolation
from writebehind.flusher.migrate import ddl, migrate
from writebehind.flusher.preflight import preflight
from writebehind.flusher.status import Sampler
from writebehind.shared.entity import Entity, Key, Last, Sum, WriteBehind
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings, load_settings


class Page(Entity, table="pages", strategy=WriteBehind()):
    """A counter and a text."""

    id: Annotated[int, Key]
    views: Annotated[int, Sum]
    title: Annotated[str, Last]


REGISTRY = Registry([Page])


@pytest.fixture
def settings(writebehind_isolated: Isolation, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in writebehind_isolated.env.items():
        monkeypatch.setenv(name, value)
    return load_settings(
        kafka={
            "bootstrap_servers": writebehind_isolated.bootstrap_servers,
            "partitions": 2,
            **_kafka(writebehind_isolated),
        }
    )


def _kafka(isolation: Isolation) -> dict[str, object]:
    return {"topic_prefix": isolation.topic_prefix}


def execute(settings: Settings, statement: str) -> None:
    with psycopg.connect(settings.database.url.get_secret_value(), autocommit=True) as connection:
        connection.execute(statement.encode())


def test_migrate_does_everything_once_and_nothing_twice(settings: Settings) -> None:
    execute(
        settings, "CREATE TABLE pages (id bigint PRIMARY KEY, views bigint, title text NOT NULL, versions bigint[])"
    )
    first = migrate(settings, REGISTRY)
    assert any("001_bookkeeping.sql" in line for line in first.done)
    assert sum("created topic" in line for line in first.done) == 2
    second = migrate(settings, REGISTRY)
    assert (second.done, second.problems) == ([], [])


def test_migrate_lists_what_the_table_lacks_and_adds_the_versions_column_when_asked(settings: Settings) -> None:
    execute(settings, "CREATE TABLE pages (id bigint PRIMARY KEY, views bigint, title text NOT NULL)")
    problems = migrate(settings, REGISTRY).problems
    assert len(problems) == 1
    assert "versions" in problems[0][0]
    assert 'ADD COLUMN "versions" bigint[]' in problems[0][1]
    assert migrate(settings, REGISTRY, tables=True).problems == []
    assert preflight(settings, REGISTRY)["page"].slots == {"title": 1}


def test_migrate_prints_statements_without_running_them(settings: Settings) -> None:
    text = ddl(settings, REGISTRY)
    assert "CREATE TABLE" in text
    assert 'ADD COLUMN IF NOT EXISTS "versions" bigint[]' in text
    with pytest.raises(ConfigurationError, match="migrate"):
        Sampler(settings, REGISTRY).sample()


def test_settings_that_the_cluster_cannot_meet_are_refused(settings: Settings) -> None:
    kafka = settings.kafka.model_copy(update={"replication_factor": 3, "min_insync_replicas": 2})
    with pytest.raises(ConfigurationError, match=r"replication_factor is 3, the cluster has 1 brokers"):
        migrate(settings.model_copy(update={"kafka": kafka}), REGISTRY)


def test_preflight_names_every_problem_at_once(settings: Settings) -> None:
    execute(settings, "CREATE TABLE pages (id bigint, views text, versions int[])")
    migrate(settings, REGISTRY)
    with pytest.raises(ConfigurationError) as raised:
        preflight(settings, REGISTRY)
    message = str(raised.value)
    for part in ("no primary key or unique index", "views is text", "no column title", "versions is integer[]"):
        assert part in message


def test_status_shows_lag_in_records_and_seconds(settings: Settings) -> None:
    execute(
        settings, "CREATE TABLE pages (id bigint PRIMARY KEY, views bigint, title text NOT NULL, versions bigint[])"
    )
    migrate(settings, REGISTRY)
    topic = f"{settings.kafka.topic_prefix}page"
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    for _ in range(3):
        producer.produce(topic, b"x", b"k", partition=1)
    assert producer.flush(30) == 0
    sampler = Sampler(settings, REGISTRY)
    first = {p.partition: p for p in sampler.sample().partitions}
    assert (first[0].lag_records, first[0].lag_s, first[0].flushed) == (0, None, None)
    assert first[1].lag_records == 3
    assert first[1].lag_s is not None
    assert first[1].oldest_pending is not None
    execute(
        settings,
        f"INSERT INTO \"{settings.database.schema_}\".progress VALUES ('{topic}', 1, 'id', 2, 1, 'me:1', now(), now())",
    )
    second = {p.partition: p for p in sampler.sample().partitions}
    assert (second[1].flushed, second[1].lag_records, second[1].owner) == (2, 1, "me:1")
    sampler.close()


def test_the_command_prints_json_and_says_which_topics_are_missing(
    settings: Settings, writebehind_isolated: Isolation
) -> None:
    execute(
        settings, "CREATE TABLE pages (id bigint PRIMARY KEY, views bigint, title text NOT NULL, versions bigint[])"
    )
    migrate(settings, Registry([Page]))
    environment = {**os.environ, **writebehind_isolated.env, "WRITEBEHIND_KAFKA__TOPIC_PREFIX": "nowhere."}
    command = [
        sys.executable,
        "-m",
        "writebehind.flusher",
        "status",
        "--json",
        "--entities",
        "tests.benchmarks.entities:BenchHot",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["missing_topics"] == ["nowhere.bench_hot"]


def test_the_command_says_what_is_missing_and_exits_with_2(writebehind_isolated: Isolation) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WRITEBEHIND_")}
    command = [sys.executable, "-m", "writebehind.flusher", "status", "--entities", "tests.benchmarks.entities"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "WRITEBEHIND_DATABASE__URL" in done.stderr
    assert "Traceback" not in done.stderr

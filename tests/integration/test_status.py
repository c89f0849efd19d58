"""`writebehind status` and `writebehind migrate` on real servers."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import psycopg
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from rich.console import Console

from tests.integration.guarded import Corner, settings_of
from tests.zygote import Popen, run
from writebehind.embedded import Isolation
from writebehind.flusher.migrate import ddl, migrate
from writebehind.flusher.preflight import preflight
from writebehind.flusher.status import Sampler, render
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
PAGES = "CREATE TABLE pages (id bigint PRIMARY KEY, views bigint, title text NOT NULL, versions bigint[])"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(writebehind_isolated: Corner, monkeypatch: pytest.MonkeyPatch) -> Settings:
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


def sampler_of(corner: Corner) -> Sampler:
    """As an auditor, who has all rights it takes."""
    corner.give(REGISTRY, {}, "auditor")
    return Sampler(settings_of(corner.env_of("auditor")), REGISTRY)


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


def test_status_shows_lag_in_records_and_seconds(settings: Settings, writebehind_isolated: Corner) -> None:
    execute(
        settings, "CREATE TABLE pages (id bigint PRIMARY KEY, views bigint, title text NOT NULL, versions bigint[])"
    )
    migrate(settings, REGISTRY)
    topic = f"{settings.kafka.topic_prefix}page"
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    for _ in range(3):
        producer.produce(topic, b"x", b"k", partition=1)
    assert producer.flush(30) == 0
    sampler = sampler_of(writebehind_isolated)
    first = {p.partition: p for p in sampler.sample().partitions}
    assert (first[0].lag_records, first[0].lag_s, first[0].flushed) == (0, None, None)
    assert (first[0].owner, first[0].claimed_at, first[0].claimed_s) == (None, None, None)
    assert first[1].lag_records == 3
    assert first[1].lag_s is not None
    assert first[1].oldest_pending is not None
    execute(
        settings,
        f"INSERT INTO \"{settings.database.schema_}\".progress VALUES ('{topic}', 1, 'id', 2, 1, 'me:1', now(), now())",
    )
    second = {p.partition: p for p in sampler.sample().partitions}
    assert (second[1].flushed, second[1].lag_records, second[1].owner) == (2, 1, "me:1")
    assert second[1].claimed_at is not None
    assert second[1].claimed_at.endswith("+00:00")
    assert second[1].claimed_s is not None
    assert second[1].claimed_s >= 0
    sampler.close()


@pytest.fixture
def topic(settings: Settings, writebehind_isolated: Corner) -> str:
    """The topic of `Page`, migrated, with five records in partition 1, and who may look at it."""
    execute(settings, PAGES)
    migrate(settings, REGISTRY)
    name = f"{settings.kafka.topic_prefix}page"
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    for _ in range(5):
        producer.produce(name, b"x", b"k", partition=1)
    assert producer.flush(30) == 0
    writebehind_isolated.give(REGISTRY, {}, "auditor")
    return name


def set_progress(settings: Settings, topic: str, next_offset: int) -> None:
    execute(
        settings,
        f"INSERT INTO \"{settings.database.schema_}\".progress VALUES ('{topic}', 1, 'id', {next_offset}, 1, 'me:1',"
        " now()) ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset, flushed_at = now()",
    )


def expire(settings: Settings, topic: str, before: int) -> None:
    """Remove the records of partition 1 before an offset, as retention does."""
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    for removed in admin.delete_records([TopicPartition(topic, 1, before)]).values():
        removed.result(30)


def test_expired_records_count_as_lag_only_when_a_flusher_has_begun(
    settings: Settings, topic: str, writebehind_isolated: Corner
) -> None:
    expire(settings, topic, 3)
    with closing(sampler_of(writebehind_isolated)) as sampler:
        unclaimed = sampler.sample().partitions[1]
        assert (unclaimed.flushed, unclaimed.lag_records) == (None, 2)
        assert unclaimed.lag_s is not None
        set_progress(settings, topic, 1)
        behind = sampler.sample().partitions[1]
        assert (behind.flushed, behind.lag_records) == (1, 4)
        assert behind.lag_s is not None, "the oldest record that is still there has an age"
        expire(settings, topic, 5)
        lost = sampler.sample().partitions[1]
        assert (lost.lag_records, lost.lag_s, lost.oldest_pending) == (4, None, None)


def test_a_rate_needs_two_samples(settings: Settings, topic: str, writebehind_isolated: Corner) -> None:
    set_progress(settings, topic, 1)
    with closing(sampler_of(writebehind_isolated)) as sampler:
        assert [p.rate_per_s for p in sampler.sample().partitions] == [None, None]
        set_progress(settings, topic, 5)
        second = sampler.sample()
    assert second.partitions[0].rate_per_s is None, "nobody flushes this partition"
    assert second.partitions[1].rate_per_s is not None
    assert second.partitions[1].rate_per_s > 0
    assert second.partitions[1].lag_records == 0
    assert second.as_json()["lag_records"] == 0


def test_the_table_has_a_line_per_partition(settings: Settings, topic: str, writebehind_isolated: Corner) -> None:
    set_progress(settings, topic, 2)
    with closing(sampler_of(writebehind_isolated)) as sampler:
        table = render(sampler.sample())
    console = Console(width=200, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(table)
    (unclaimed, claimed) = (line for line in capture.get().splitlines() if topic in line)
    assert "nobody yet" in unclaimed
    assert "me:1" in claimed


def test_watching_goes_on_until_it_is_interrupted(topic: str, writebehind_isolated: Corner) -> None:
    command = [sys.executable, "-m", "writebehind.flusher", "status", "--json", "--watch", "--interval", "0.2"]
    environment = {**os.environ, **writebehind_isolated.env_of("auditor")}
    arguments = [*command, "--entities", f"{__name__}:Page"]
    process: Popen[str] = Popen(arguments, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        try:
            samples = [json.loads(process.stdout.readline()) for _ in range(3)]
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert [len(sample["partitions"]) for sample in samples] == [2, 2, 2]
    assert samples[0]["at"] < samples[1]["at"] < samples[2]["at"]


def test_an_interval_without_watching_gives_one_sample_with_rates(
    settings: Settings, topic: str, writebehind_isolated: Corner
) -> None:
    set_progress(settings, topic, 2)
    command = [sys.executable, "-m", "writebehind.flusher", "status", "--json", "--interval", "0.2"]
    environment = {**os.environ, **writebehind_isolated.env_of("auditor")}
    arguments = [*command, "--entities", f"{__name__}:Page"]
    done = run(arguments, env=environment, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    sample = json.loads(done.stdout)
    assert sample["lag_records"] == 3
    claimed = sample["partitions"][1]
    assert (claimed["topic"], claimed["partition"], claimed["end"], claimed["flushed"]) == (topic, 1, 5, 2)
    assert claimed["rate_per_s"] == 0


def test_the_command_prints_json_and_says_which_topics_are_missing(
    settings: Settings, writebehind_isolated: Corner
) -> None:
    execute(
        settings, "CREATE TABLE pages (id bigint PRIMARY KEY, views bigint, title text NOT NULL, versions bigint[])"
    )
    migrate(settings, Registry([Page]))
    # An operator: nobody is given rights on a table that is not there.
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
    done = run(command, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["missing_topics"] == ["nowhere.bench_hot"]


def test_the_command_says_what_is_missing_and_exits_with_2(writebehind_isolated: Corner) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WRITEBEHIND_")}
    command = [sys.executable, "-m", "writebehind.flusher", "status", "--entities", "tests.benchmarks.entities"]
    done = run(command, env=environment, timeout=60)
    assert done.returncode == 2
    assert "WRITEBEHIND_DATABASE__URL" in done.stderr
    assert "Traceback" not in done.stderr

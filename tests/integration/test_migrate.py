"""`writebehind migrate` on real servers: bookkeeping that fences, slots that stay, topics that are never changed."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from threading import Barrier
from typing import Annotated, Any

import psycopg
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic
from psycopg import sql

from writebehind.embedded import Isolation
from writebehind.flusher.migrate import ddl, migrate
from writebehind.flusher.topics import LETTER_EXTRA_BYTES
from writebehind.shared.entity import Entity, Key, Sum, WriteBehind
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings, load_settings

TABLE = "CREATE TABLE notes (id bigint PRIMARY KEY, a text, b text, c text, hits bigint, versions bigint[])"


class First(Entity, table="notes", name="note", strategy=WriteBehind()):
    id: Annotated[int, Key]
    a: str | None = None
    b: str | None = None
    hits: Annotated[int, Sum] = 0


class Second(Entity, table="notes", name="note", strategy=WriteBehind()):
    """The same entity after `a` was dropped and `c` came, before `b`."""

    id: Annotated[int, Key]
    c: str | None = None
    b: str | None = None
    hits: Annotated[int, Sum] = 0


class Third(Entity, table="notes", name="note", strategy=WriteBehind(deletes=True)):
    """Deletes give the sum a version too, and `a` is back."""

    id: Annotated[int, Key]
    a: str | None = None
    hits: Annotated[int, Sum] = 0


NOTES = Registry([First])


@pytest.fixture
def settings(writebehind_isolated: Isolation, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in writebehind_isolated.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WRITEBEHIND_KAFKA__PARTITIONS", "2")
    return load_settings()


@pytest.fixture
def connection(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    url = settings.database.url.get_secret_value()
    with psycopg.connect(url, autocommit=True, application_name="test") as opened:
        opened.execute(TABLE.encode())
        yield opened


def bookkeeping(settings: Settings, text: str) -> sql.Composed:
    """`{}` is the bookkeeping schema."""
    template = sql.SQL(text)  # pyright: ignore[reportArgumentType]  # a test's own text
    return template.format(sql.Identifier(settings.database.schema_))


def slots(connection: psycopg.Connection[Any], settings: Settings) -> dict[str, int]:
    query = bookkeeping(settings, "SELECT column_name, slot FROM {}.slot WHERE entity = 'note'")
    return dict(connection.execute(query).fetchall())


def topic_config(settings: Settings, topic: str) -> dict[str, str | None]:
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    (future,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    return {name: entry.value for name, entry in future.result(30).items()}


def with_kafka(settings: Settings, **changes: object) -> Settings:
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update=changes)})


def test_a_field_keeps_its_slot_and_no_other_field_ever_gets_it(
    connection: psycopg.Connection[Any], settings: Settings
) -> None:
    migrate(settings, NOTES)
    assert slots(connection, settings) == {"a": 1, "b": 2}
    report = migrate(settings, Registry([Second]))
    assert report.done == ["gave note.c a slot for its version"]
    assert slots(connection, settings) == {"a": 1, "b": 2, "c": 3}
    migrate(settings, Registry([Third]))
    assert slots(connection, settings) == {"a": 1, "b": 2, "c": 3, "hits": 4}


def test_migrations_that_run_at_the_same_time_do_the_work_once(
    connection: psycopg.Connection[Any], settings: Settings
) -> None:
    together = Barrier(3)

    def run() -> list[str]:
        together.wait(60)
        report = migrate(settings, NOTES)
        assert report.problems == []
        return report.done

    with ThreadPoolExecutor(3) as pool:
        done = [line for future in [pool.submit(run) for _ in range(3)] for line in future.result(120)]
    assert len(done) == len(set(done))
    assert slots(connection, settings) == {"a": 1, "b": 2}


def test_topics_get_their_settings_and_letters_fit_the_largest_record(
    connection: psycopg.Connection[Any], settings: Settings
) -> None:
    migrate(with_kafka(settings, max_message_bytes=200_000, retention_ms=120_000), NOTES)
    topic = f"{settings.kafka.topic_prefix}note"
    config, letters = topic_config(settings, topic), topic_config(settings, f"{topic}.dlq")
    assert config["cleanup.policy"] == letters["cleanup.policy"] == "delete"
    assert config["retention.ms"] == letters["retention.ms"] == "120000"
    assert config["max.message.bytes"] == "200000"
    assert letters["max.message.bytes"] == str(200_000 + LETTER_EXTRA_BYTES)


def test_a_topic_that_differs_is_reported_with_the_command_and_left_alone(
    connection: psycopg.Connection[Any], settings: Settings
) -> None:
    migrate(settings, NOTES)
    topic = f"{settings.kafka.topic_prefix}note"
    before = topic_config(settings, topic)
    report = migrate(with_kafka(settings, retention_ms=3_600_000, partitions=5), NOTES)
    assert report.done == []
    problems = {problem: fix for problem, fix in report.problems if f"{topic}.dlq" not in problem}
    assert set(problems) == {
        f"topic {topic}: retention.ms is {settings.kafka.retention_ms}, the settings say 3600000",
        f"topic {topic} has 2 partitions, the settings say 5",
    }
    assert any("--add-config retention.ms=3600000" in fix for fix in problems.values())
    assert any("--partitions 5" in fix for fix in problems.values())
    assert topic_config(settings, topic) == before


def test_the_printed_statements_are_those_that_run(connection: psycopg.Connection[Any], settings: Settings) -> None:
    connection.execute("ALTER TABLE notes DROP COLUMN versions")
    connection.execute(ddl(settings, NOTES).encode())
    for table in ("progress", "tombstone", "slot"):
        connection.execute(bookkeeping(settings, "SELECT FROM {}." + table))
    connection.execute("SELECT versions FROM notes")


def test_migrate_goes_on_from_the_printed_statements(connection: psycopg.Connection[Any], settings: Settings) -> None:
    connection.execute(ddl(settings, NOTES).encode())
    assert slots(connection, settings) == {"a": 1, "b": 2}
    report = migrate(settings, Registry([Second]))
    assert [line for line in report.done if "topic" not in line] == ["gave note.c a slot for its version"]
    assert slots(connection, settings) == {"a": 1, "b": 2, "c": 3}


def test_what_is_there_already_needs_no_right_to_create_it(
    connection: psycopg.Connection[Any], settings: Settings, writebehind_isolated: Isolation
) -> None:
    migrate(settings, NOTES)
    role = sql.Identifier(f"{writebehind_isolated.schema}_reader")
    schemas = sql.SQL(", ").join(map(sql.Identifier, (settings.database.schema_, writebehind_isolated.schema)))
    connection.execute(sql.SQL("CREATE ROLE {}").format(role))
    try:
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schemas, role))
        connection.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}").format(schemas, role))
        url = f"{settings.database.url.get_secret_value()}%20-crole%3D{writebehind_isolated.schema}_reader"
        reader = type(settings.database).model_validate({"url": url, "schema": settings.database.schema_})
        as_reader = settings.model_copy(update={"database": reader})
        report = migrate(as_reader, NOTES)
        assert (report.done, report.problems) == ([], [])
        with pytest.raises(ConfigurationError, match="42501"):
            migrate(as_reader, Registry([Second]))
    finally:
        connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
        connection.execute(sql.SQL("DROP ROLE {}").format(role))


def test_a_table_in_use_is_waited_for_only_so_long_and_then_nothing_is_done(
    connection: psycopg.Connection[Any], settings: Settings
) -> None:
    connection.execute("ALTER TABLE notes DROP COLUMN versions")
    impatient = settings.model_copy(
        update={"database": settings.database.model_copy(update={"lock_timeout_s": 0.1})},
    )
    with connection.transaction():
        connection.execute("SELECT FROM notes")
        with pytest.raises(ConfigurationError, match="55P03"):
            migrate(impatient, NOTES, tables=True)
    query = "SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s"
    assert connection.execute(query, (settings.database.schema_,)).fetchall() == []
    assert migrate(impatient, NOTES, tables=True).problems == []


def test_a_topic_whose_min_insync_replicas_cannot_be_met_is_reported(
    connection: psycopg.Connection[Any], settings: Settings
) -> None:
    topic = f"{settings.kafka.topic_prefix}note"
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    new = NewTopic(topic, settings.kafka.partitions, 1, config={"min.insync.replicas": "2"})
    admin.create_topics([new])[topic].result(30)
    problems = dict(migrate(settings, NOTES).problems)
    message = f"topic {topic}: min.insync.replicas is 2 and there are 1 replicas: no write is acknowledged"
    assert "--add-config min.insync.replicas=1" in problems[message]


def test_the_bookkeeping_schema_may_have_any_name(
    connection: psycopg.Connection[Any], settings: Settings, writebehind_isolated: Isolation
) -> None:
    name = f'{writebehind_isolated.bookkeeping_schema} "; -- {{x}}\n'
    odd = settings.model_copy(update={"database": settings.database.model_copy(update={"schema_": name})})
    try:
        assert migrate(odd, NOTES).problems == []
        assert slots(connection, odd) == {"a": 1, "b": 2}
    finally:
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


ADVANCE = "SELECT {}.advance(%s::text[], %s::int[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])"
OLD_ADVANCE = "SELECT {}.advance(%s::text[], %s::int[], %s::bigint[], %s::bigint[], %s::bigint[])"


def advance(
    connection: psycopg.Connection[Any], settings: Settings, *moves: tuple[int, int, int, int]
) -> dict[int, int]:
    """Move partitions (partition, epoch, expected, next) in one call; gives all offsets."""
    columns = [["t"] * len(moves), *map(list, zip(*moves, strict=True)), [None] * len(moves)]
    try:
        connection.execute(bookkeeping(settings, ADVANCE), columns)
    finally:
        query = bookkeeping(settings, "SELECT partition, next_offset FROM {}.progress WHERE topic = 't'")
        found = dict(connection.execute(query).fetchall())
    return found


@pytest.fixture
def progress(connection: psycopg.Connection[Any], settings: Settings) -> psycopg.Connection[Any]:
    """Partitions 0 and 1 of topic t, under epoch 3, both at offset 10."""
    migrate(settings, NOTES)
    insert = "INSERT INTO {}.progress SELECT 't', n, 'id', 10, 3, 'me', now() FROM generate_series(0, 1) AS n"
    connection.execute(bookkeeping(settings, insert))
    return connection


def test_advance_moves_all_partitions_of_a_batch(progress: psycopg.Connection[Any], settings: Settings) -> None:
    assert advance(progress, settings, (0, 3, 10, 15), (1, 3, 10, 11)) == {0: 15, 1: 11}
    flushed = progress.execute(bookkeeping(settings, "SELECT count(flushed_at) FROM {}.progress")).fetchone()
    assert flushed == (2,)


@pytest.mark.parametrize(
    "wrong",
    [(1, 2, 10, 12), (1, 4, 10, 12), (1, 3, 9, 12), (1, 3, 11, 12), (7, 3, 10, 12)],
    ids=["older epoch", "newer epoch", "behind", "ahead", "not claimed"],
)
def test_advance_moves_nothing_when_one_partition_is_not_as_expected(
    progress: psycopg.Connection[Any], settings: Settings, wrong: tuple[int, int, int, int]
) -> None:
    with pytest.raises(psycopg.Error) as raised:
        advance(progress, settings, (0, 3, 10, 15), wrong)
    assert raised.value.sqlstate == "WB001"
    rows = progress.execute(bookkeeping(settings, "SELECT next_offset FROM {}.progress")).fetchall()
    assert rows == [(10,), (10,)]


def test_advance_says_how_far_the_cache_knows(progress: psycopg.Connection[Any], settings: Settings) -> None:
    def settled() -> list[int | None]:
        query = bookkeeping(settings, "SELECT settled_offset FROM {}.progress ORDER BY partition")
        return [row[0] for row in progress.execute(query).fetchall()]

    def step(expected: int, known: list[int | None]) -> list[int | None]:
        columns = [["t", "t"], [0, 1], [3, 3], [expected] * 2, [expected + 5] * 2, known]
        progress.execute(bookkeeping(settings, ADVANCE), columns)
        return settled()

    assert settled() == [None, None]
    assert step(10, [None, 10]) == [10, 10]  # nobody said: all that was flushed before this batch
    assert step(15, [None, 15]) == [10, 15]
    # A flusher of a release that does not know the column says that everything is settled.
    progress.execute(bookkeeping(settings, OLD_ADVANCE), [["t"], [0], [3], [20], [22]])
    assert settled() == [22, 15]


def test_every_file_of_the_bookkeeping_has_a_number_of_its_own() -> None:
    names = [entry.name for entry in (files("writebehind.flusher") / "sql").iterdir() if entry.name.endswith(".sql")]
    assert sorted(int(name.partition("_")[0]) for name in names) == list(range(1, len(names) + 1))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://someone:s3cret@127.0.0.1:1/nothing",
        "postgresql//someone:s3cret@127.0.0.1/nothing",
        "postgresql://someone:s3cret/x@127.0.0.1/nothing",
    ],
    ids=["closed port", "not a URL", "password not escaped"],
)
def test_a_database_that_cannot_be_reached_is_reported_without_its_password(settings: Settings, url: str) -> None:
    database = type(settings.database).model_validate({"url": url})
    with pytest.raises(ConfigurationError, match="WRITEBEHIND_DATABASE__URL") as raised:
        migrate(settings.model_copy(update={"database": database}), NOTES)
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))

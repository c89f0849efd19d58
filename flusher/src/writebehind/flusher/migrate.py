"""`writebehind migrate`: bookkeeping tables, slots, topics. Idempotent; never changes what is there in silence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import psycopg
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic
from psycopg import sql

from writebehind.shared import naming, table
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings, kafka_client_config

LOCK = 0x77726974  # "writ": one migration at a time
LETTER_EXTRA_BYTES = 65_536  # a letter is its record plus headers


@dataclass(slots=True)
class Report:
    """What was done, and what has to be done by hand (`problems`, with the statement or command that mends each)."""

    done: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


def migrate(settings: Settings, registry: Registry, *, tables: bool = False) -> Report:
    """Bring bookkeeping and topics up to date. `tables`: also add missing versions columns to the entities' tables.

    Raises ConfigurationError when a server cannot do what the settings ask, or does not answer.
    """
    report = Report()
    try:
        with psycopg.connect(
            settings.database.url.get_secret_value(), application_name="writebehind-migrate", connect_timeout=10
        ) as connection:
            _migrate_database(connection, settings, registry, report, tables=tables)
    except psycopg.Error as error:
        raise ConfigurationError(
            f"the database could not be migrated ({error.sqlstate or type(error).__name__}): {_reason(error)}"
        ) from None  # the cause's text may quote the URL
    _migrate_topics(settings, registry, report)
    return report


def ddl(settings: Settings, registry: Registry) -> str:
    """All statements `migrate --tables` could run, for reading."""
    schema = sql.Identifier(settings.database.schema_)
    parts = [f"CREATE SCHEMA IF NOT EXISTS {schema.as_string(None)};"]
    parts += [text.as_string(None) for _, _, text in _files(schema)]
    for declaration in registry:
        if declaration.versioned:
            name = (
                sql.Identifier(declaration.schema, declaration.table)
                if declaration.schema
                else sql.Identifier(declaration.table)
            )
            column = sql.Identifier(declaration.strategy.versions_column)
            parts.append(
                sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} bigint[];").format(name, column).as_string(None)
            )
    return "\n\n".join(parts)


def _files(schema: sql.Identifier) -> Iterator[tuple[int, str, sql.Composed]]:
    for entry in sorted((files("writebehind.flusher") / "sql").iterdir(), key=lambda e: e.name):
        number = entry.name.partition("_")[0]
        if entry.name.endswith(".sql") and number.isdigit():
            template = sql.SQL(entry.read_text())  # pyright: ignore[reportArgumentType]  # our own file, not a literal
            yield int(number), entry.name, template.format(schema=schema)


def _migrate_database(
    connection: psycopg.Connection[Any], settings: Settings, registry: Registry, report: Report, *, tables: bool
) -> None:
    schema = sql.Identifier(settings.database.schema_)
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
    connection.execute(
        sql.SQL(
            "CREATE TABLE IF NOT EXISTS {}.migration (number int PRIMARY KEY, name text NOT NULL, "
            "applied_at timestamptz NOT NULL)"
        ).format(schema)
    )
    applied = {
        row[0] for row in connection.execute(sql.SQL("SELECT number FROM {}.migration").format(schema)).fetchall()
    }
    for number, name, text in _files(schema):
        if number not in applied:
            connection.execute(text)
            connection.execute(
                sql.SQL("INSERT INTO {}.migration VALUES (%s, %s, now())").format(schema), (number, name)
            )
            report.done.append(f"applied {name}")
    _assign_slots(connection, schema, registry, report)
    _check_tables(connection, registry, report, add_versions=tables)


def _assign_slots(
    connection: psycopg.Connection[Any], schema: sql.Identifier, registry: Registry, report: Report
) -> None:
    for declaration in registry:
        names = [c.name for c in declaration.versioned]
        cursor = connection.execute(
            sql.SQL(
                "INSERT INTO {s}.slot (entity, column_name, slot) "
                "SELECT %(entity)s, n.name, (SELECT COALESCE(max(slot), 0) FROM {s}.slot WHERE "
                "entity = %(entity)s) + row_number() OVER (ORDER BY n.at) "
                "FROM unnest(%(names)s::text[]) WITH ORDINALITY AS n (name, at) "
                "WHERE NOT EXISTS (SELECT FROM {s}.slot AS k WHERE k.entity = %(entity)s AND "
                "k.column_name = n.name) RETURNING column_name"
            ).format(s=schema),
            {"entity": declaration.name, "names": names},
        )
        report.done += [f"gave {declaration.name}.{name} a slot for its version" for (name,) in cursor.fetchall()]


def _check_tables(
    connection: psycopg.Connection[Any], registry: Registry, report: Report, *, add_versions: bool
) -> None:
    for declaration in registry:
        info = table.parse(connection.execute(table.QUERY, table.params(declaration)).fetchall())
        for problem in table.problems(declaration, info):
            missing_versions = (
                info is not None
                and problem.column == declaration.strategy.versions_column
                and problem.column not in info.columns
            )
            if add_versions and missing_versions and info is not None:
                name = sql.Identifier(info.schema, info.table)
                column = sql.Identifier(declaration.strategy.versions_column)
                connection.execute(sql.SQL("ALTER TABLE {} ADD COLUMN {} bigint[]").format(name, column))
                report.done.append(f"added {info.schema}.{info.table}.{declaration.strategy.versions_column}")
            else:
                report.problems.append((problem.message, problem.fix))


def _migrate_topics(settings: Settings, registry: Registry, report: Report) -> None:
    admin = AdminClient(kafka_client_config(settings))
    kafka = settings.kafka
    try:
        metadata = admin.list_topics(timeout=10)
    except KafkaException as error:
        raise ConfigurationError(
            f"the broker at {kafka.bootstrap_servers} does not answer ({error.args[0].name()})"
        ) from error
    if kafka.replication_factor > len(metadata.brokers):
        raise ConfigurationError(
            f"kafka.replication_factor is {kafka.replication_factor}, the cluster has {len(metadata.brokers)} brokers; "
            f"kafka.min_insync_replicas ({kafka.min_insync_replicas}) could not be met either"
        )
    wanted: dict[str, dict[str, str]] = {}
    for declaration in registry:
        name = naming.topic(kafka.topic_prefix, declaration.name)
        wanted[name] = _topic_config(settings, kafka.max_message_bytes)
        wanted[naming.dead_letter_topic(name)] = _topic_config(settings, kafka.max_message_bytes + LETTER_EXTRA_BYTES)
    present = [name for name in wanted if name in metadata.topics]
    _compare_topics(admin, present, wanted, report)
    for name in present:
        count = len(metadata.topics[name].partitions)
        if count < kafka.partitions:
            fix = f"kafka-topics --alter --topic {name} --partitions {kafka.partitions} (see the guide: keys move)"
            report.problems.append((f"topic {name} has {count} partitions, the settings say {kafka.partitions}", fix))
    _create_topics(
        admin,
        [
            NewTopic(n, kafka.partitions, kafka.replication_factor, config=c)
            for n, c in wanted.items()
            if n not in present
        ],
        report,
    )


def _topic_config(settings: Settings, max_message_bytes: int) -> dict[str, str]:
    return {
        "cleanup.policy": "delete",  # a compacted topic would drop patches and deltas
        "min.insync.replicas": str(settings.kafka.min_insync_replicas),
        "retention.ms": str(settings.kafka.retention_ms),
        "max.message.bytes": str(max_message_bytes),
    }


def _create_topics(admin: AdminClient, topics: Sequence[NewTopic], report: Report) -> None:
    if not topics:
        return
    for name, future in admin.create_topics(list(topics), operation_timeout=30).items():
        try:
            future.result()
            report.done.append(f"created topic {name}")
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise ConfigurationError(f"topic {name} could not be created ({error.args[0].name()})") from error


def _compare_topics(
    admin: AdminClient, present: Sequence[str], wanted: dict[str, dict[str, str]], report: Report
) -> None:
    if not present:
        return
    for resource, future in admin.describe_configs(
        [ConfigResource(ResourceType.TOPIC, name) for name in present]
    ).items():
        try:
            actual = future.result()
        except KafkaException as error:
            raise ConfigurationError(
                f"topic {resource.name} could not be described ({error.args[0].name()})"
            ) from error
        for key, value in wanted[resource.name].items():
            if actual[key].value != value:
                fix = (
                    f"kafka-configs --alter --entity-type topics --entity-name {resource.name} "
                    f"--add-config {key}={value}"
                )
                report.problems.append(
                    (f"topic {resource.name}: {key} is {actual[key].value}, the settings say {value}", fix)
                )


def _reason(error: psycopg.Error) -> str:
    """What the server said. The client's own messages quote parts of the URL, which holds the password."""
    return error.diag.message_primary or "no connection; check WRITEBEHIND_DATABASE__URL and whether the server runs"

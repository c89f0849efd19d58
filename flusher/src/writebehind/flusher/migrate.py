"""`writebehind migrate`: bookkeeping tables, slots, topics. Idempotent; never changes what is there in silence.

What exists already needs no right to create it, so that the printed statements can be run by someone else before.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import sql

from writebehind.shared import table
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings

from . import servers
from .report import Report
from .topics import migrate_topics

LOCK = 0x77726974  # "writ": one migration at a time

_MIGRATION_TABLE = sql.SQL(
    "CREATE TABLE {schema}.migration (number int PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL)"
)
_RECORD = sql.SQL("INSERT INTO {schema}.migration VALUES ({number}, {name}, now())")
# Right whatever slots there are: a field that has one keeps it, and a new one gets the next that was never given.
_SLOTS = sql.SQL(
    "INSERT INTO {schema}.slot (entity, column_name, slot) "
    "SELECT {entity}, n.name, (SELECT COALESCE(max(slot), 0) FROM {schema}.slot WHERE entity = {entity}) "
    "+ row_number() OVER (ORDER BY n.at) "
    "FROM unnest({names}::text[]) WITH ORDINALITY AS n (name, at) "
    "WHERE NOT EXISTS (SELECT FROM {schema}.slot AS k WHERE k.entity = {entity} AND k.column_name = n.name)"
)


def migrate(settings: Settings, registry: Registry, *, tables: bool = False) -> Report:
    """Bring bookkeeping and topics up to date. `tables`: also add missing columns of versions to the entities' tables.

    Raises ConfigurationError when a server cannot do what the settings ask, or does not answer.
    """
    report = Report()
    with servers.database(settings.database, "writebehind-migrate") as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        _bring_up_bookkeeping(connection, settings.database.schema_, report)
        _assign_slots(connection, settings.database.schema_, registry, report)
        _check_tables(connection, registry, report, add_versions=tables)
    migrate_topics(settings, registry, report)
    return report


def ddl(settings: Settings, registry: Registry) -> str:
    """All statements that `migrate --tables` runs on an empty database, to be read, or run with more rights."""
    schema = sql.Identifier(settings.database.schema_)
    parts: list[sql.Composable] = [
        sql.SQL("CREATE SCHEMA IF NOT EXISTS {};").format(schema),
        _MIGRATION_TABLE.format(schema=schema) + sql.SQL(";"),
    ]
    for number, name, text in _files(schema):
        parts += [text, _RECORD.format(schema=schema, number=number, name=name) + sql.SQL(";")]
    for declaration in registry:
        if declaration.versioned:
            names = [c.name for c in declaration.versioned]
            parts.append(_SLOTS.format(schema=schema, entity=declaration.name, names=names) + sql.SQL(";"))
        if (column := declaration.version_column) is not None:
            place = [declaration.schema, declaration.table] if declaration.schema else [declaration.table]
            alter = sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {};")
            parts.append(alter.format(sql.Identifier(*place), sql.Identifier(column.name), sql.SQL(column.type_name)))
    return "\n\n".join(part.as_string(None).strip() for part in parts)


def _files(schema: sql.Identifier) -> Iterator[tuple[int, str, sql.Composed]]:
    for entry in sorted((files("writebehind.flusher") / "sql").iterdir(), key=lambda e: e.name):
        number = entry.name.partition("_")[0]
        if entry.name.endswith(".sql") and number.isdigit():
            template = sql.SQL(entry.read_text())  # pyright: ignore[reportArgumentType]  # our own file, not a literal
            yield int(number), entry.name, template.format(schema=schema)


def _bring_up_bookkeeping(connection: psycopg.Connection[Any], name: str, report: Report) -> None:
    schema = sql.Identifier(name)
    # CREATE ... IF NOT EXISTS asks for the right to create even when there is nothing to do.
    if not _exists(connection, "SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s", name):
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
    if not _exists(
        connection, "SELECT FROM pg_catalog.pg_tables WHERE schemaname = %s AND tablename = 'migration'", name
    ):
        connection.execute(_MIGRATION_TABLE.format(schema=schema))
    rows = connection.execute(sql.SQL("SELECT number FROM {}.migration").format(schema)).fetchall()
    applied = {number for (number,) in rows}
    for number, file, text in _files(schema):
        if number not in applied:
            connection.execute(text)
            connection.execute(_RECORD.format(schema=schema, number=number, name=file))
            report.done.append(f"applied {file}")


def lacking(connection: psycopg.Connection[Any], name: str) -> list[str]:
    """The files of this release that the bookkeeping in a schema was not brought up with."""
    schema = sql.Identifier(name)
    rows = connection.execute(sql.SQL("SELECT number FROM {}.migration").format(schema)).fetchall()
    return [file for number, file, _ in _files(schema) if (number,) not in rows]


def _exists(connection: psycopg.Connection[Any], query: str, name: str) -> bool:
    return bool(connection.execute(query.encode(), (name,)).fetchall())


def slots(connection: psycopg.Connection[Any], schema: str, entity: str) -> dict[str, int]:
    """Each field's place in the row's array of versions."""
    query = sql.SQL("SELECT column_name, slot FROM {} WHERE entity = %s").format(sql.Identifier(schema, "slot"))
    return dict(connection.execute(query, (entity,)).fetchall())


def _assign_slots(connection: psycopg.Connection[Any], schema: str, registry: Registry, report: Report) -> None:
    for declaration in registry:
        names = [c.name for c in declaration.versioned]
        there = slots(connection, schema, declaration.name)
        new = [name for name in names if name not in there]
        if new:
            connection.execute(_SLOTS.format(schema=sql.Identifier(schema), entity=declaration.name, names=names))
        report.done += [f"gave {declaration.name}.{name} a slot for its version" for name in new]


def _check_tables(
    connection: psycopg.Connection[Any], registry: Registry, report: Report, *, add_versions: bool
) -> None:
    for declaration in registry:
        column = declaration.version_column
        info = table.parse(connection.execute(table.QUERY, table.params(declaration)).fetchall())
        for problem in table.problems(declaration, info):
            if add_versions and info and column and column.name == problem.column and column.name not in info.columns:
                connection.execute(table.version_ddl(info, column).encode())
                report.done.append(f"added {info.schema}.{info.table}.{column.name}")
            else:
                report.problems.append((problem.message, problem.fix))

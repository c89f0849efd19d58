"""Checks of Postgres: version, encryption, clock, tables, bookkeeping, and the privileges that are held."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from importlib.resources import files
from typing import Any

import psycopg

from writebehind.shared import table
from writebehind.shared.declaration import Declaration
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings
from writebehind.shared.strategy import WriteBehind
from writebehind.shared.table import TableInfo

from .. import servers
from ..explain.table_smells import unfillable
from ..grants.database import Right, rights
from ..grants.roles import Role
from ..migrate import lacking as lacking_files
from ..migrate import slots
from .finding import Finding, error, hint, skewed, warning

SERVER = "database"
OLDEST = 150_000  # MERGE
FILLFACTOR = 90  # room for a version of one row in ten

_TABLE = (files("writebehind.flusher.check") / "table.sql").read_bytes()
_RIGHT = (files("writebehind.flusher.check") / "right.sql").read_bytes()


def look(settings: Settings, registry: Registry, role: Role) -> tuple[list[Finding], dict[str, Any]]:
    """Findings, and what the server says of itself. Raises ConfigurationError when it cannot be asked."""
    with servers.database(settings.database, "writebehind-check") as connection:
        facts = _facts(connection)
        found = [*of_server(facts), *skewed(SERVER, facts["clock_skew_s"])]
        infos = {
            d.name: table.parse(connection.execute(table.QUERY, table.params(d)).fetchall())
            for d in registry
            if role is not Role.FLUSHER or isinstance(d.strategy, WriteBehind)
        }
        declared = [d for d in registry if d.name in infos]
        if role is not Role.MIGRATOR:
            found += _bookkeeping(connection, settings, registry, role, infos)
        for declaration in declared:
            found += _table(connection, declaration, infos[declaration.name])
    return found, facts


def _facts(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    began = time.time()
    row = connection.execute(
        "SELECT current_setting('server_version'), current_setting('server_version_num')::int, pg_is_in_recovery(), "
        "(SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()), "
        "extract(epoch FROM clock_timestamp())::float8, session_user::text"
    ).fetchone()
    ended = time.time()
    names = ("version", "number", "replica", "tls", "clock_skew_s", "user")
    facts: dict[str, Any] = dict(zip(names, row or (), strict=True))
    facts["clock_skew_s"] = round(facts["clock_skew_s"] - (began + ended) / 2, 3)
    return facts


def of_server(facts: dict[str, Any]) -> Iterator[Finding]:
    """What is wrong with a database that says so of itself. Pure."""
    if facts["number"] < OLDEST:
        what, why = f"PostgreSQL {facts['version']}", "rows are written with MERGE, which came with 15"
        yield error(SERVER, what, why, "upgrade to PostgreSQL 15 or newer")
    if facts["replica"]:
        why = "a replica is read-only and lags"
        yield error(SERVER, "it is a replica", why, "give the primary's address in WRITEBEHIND_DATABASE__URL")


def _bookkeeping(
    connection: psycopg.Connection[Any],
    settings: Settings,
    registry: Registry,
    role: Role,
    infos: dict[str, TableInfo | None],
) -> Iterator[Finding]:
    def schema_of(declaration: Declaration) -> str:
        info = infos.get(declaration.name)
        return info.schema if info is not None else declaration.schema or ""

    schema = settings.database.schema_
    needed = rights(role, registry, bookkeeping=schema, schema_of=schema_of)
    held = {right: _held(connection, right) for right in needed}
    lacking = sorted(
        {right.name.partition("(")[0] for right in needed if held[right] is None and right.schema == schema}
    )
    if lacking:
        what = f"the schema {schema} lacks {', '.join(name or 'itself' for name in lacking)}"
        yield error(SERVER, what, "nothing can be flushed or audited without it", "writebehind migrate")
    user = str(connection.info.user)
    for right in needed:
        if held[right] is False:
            on = f"{right.schema}.{right.name}" if right.name else right.schema
            columns = f" ({', '.join(right.columns)})" if right.columns else ""
            what = f"{user} lacks {right.privilege} on {on}{columns}"
            yield error(
                SERVER, what, f"the {role} needs it; `writebehind grants --role {role}` has all", right.grant(user)
            )
    if role is Role.FLUSHER and not lacking and all(held.values()):
        known = [(d, slots(connection, schema, d.name)) for d in registry.write_behind]
        yield from out_of_date(lacking_files(connection, schema), known)


def out_of_date(
    files_lacking: Sequence[str], slots_known: Iterable[tuple[Declaration, Collection[str]]]
) -> Iterator[Finding]:
    """What `writebehind migrate` has not made yet: files of the bookkeeping, slots of fields. Pure."""
    why = "the flusher would not start"
    if files_lacking:
        yield error(SERVER, f"the bookkeeping lacks {', '.join(files_lacking)}", why, "writebehind migrate")
    for declaration, known in slots_known:
        if unplaced := [c.name for c in declaration.versioned if c.name not in known]:
            what = f"{declaration.name}: fields without a slot for their version: {', '.join(unplaced)}"
            yield error(SERVER, what, why, "writebehind migrate")


def _table(connection: psycopg.Connection[Any], declaration: Declaration, info: TableInfo | None) -> Iterator[Finding]:
    for problem in table.problems(declaration, info):
        yield error(SERVER, problem.message, "writes to it fail, or are stored as something else", problem.fix)
    if info is None:
        return
    for smell in unfillable(declaration, info):
        yield warning(SERVER, f"{smell.place}: {smell.what}", smell.why, smell.do)
    written = [c.name for c in declaration.fields]
    if declaration.version_column is not None:
        written.append(declaration.version_column.name)
    place = {"schema": info.schema, "table": info.table, "columns": written}
    for kind, name, detail in connection.execute(_TABLE, place).fetchall():
        yield from _of_table(declaration, info, kind, name, detail)


def _of_table(declaration: Declaration, info: TableInfo, kind: str, name: str, detail: str) -> Iterator[Finding]:
    place = f"{declaration.name}: {info.schema}.{info.table}"
    behind = isinstance(declaration.strategy, WriteBehind)
    refused = "it becomes a dead letter" if behind else "the call raises Refused"
    if kind == "constraint" or (kind == "index" and detail == "true"):
        rule = detail if kind == "constraint" else "unique"
        what = f"{place} has {name}, which may refuse a row ({rule})"
        why = f"the declaration does not know the rule: a write that breaks it is refused late; {refused}"
        yield hint(SERVER, what, why, "let the declaration allow no more than the table does, or drop the rule")
    if kind == "index" and behind:
        what, why = (
            f"{place}: the index {name} is on a column that flushes change",
            "each update writes all indexes (no HOT)",
        )
        yield hint(SERVER, what, why, f"if no query needs it: DROP INDEX {info.schema}.{name}")
    if kind == "fillfactor" and behind and int(detail) > FILLFACTOR:
        why = "updates of a row find no room beside it, and write all indexes"
        fix = f'ALTER TABLE "{info.schema}"."{info.table}" SET (fillfactor = {FILLFACTOR})'
        yield hint(SERVER, f"{place} has fillfactor {detail}", why, f"{fix}; it is for pages written from then on")


def _held(connection: psycopg.Connection[Any], right: Right) -> bool | None:
    row = connection.execute(
        _RIGHT,
        {
            "kind": right.kind,
            "schema": right.schema,
            "name": right.name,
            "columns": list(right.columns),
            "privilege": right.privilege,
        },
    ).fetchone()
    held: bool | None = None if row is None else row[0]
    return held

"""What each role has to be allowed in Postgres. Columns are named: a table's other columns stay out of reach.

A `MERGE` needs SELECT on what it reads, UPDATE on the fields, INSERT on all it fills; deletes need their tombstones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from writebehind.shared.declaration import Declaration
from writebehind.shared.registry import Registry
from writebehind.shared.strategy import WriteBehind

from .roles import Role, writes_rows

ADVANCE = "advance(text[], integer[], bigint[], bigint[], bigint[], bigint[])"  # as the catalog spells it
ROW_MISSING = "row_missing()"
_LETTER = ("topic", "topic_id", "partition", "offset", "entity", "changed_by")
_PROGRESS = ("topic", "partition", "next_offset")  # all that a receipt asks for

SchemaOf = Callable[[Declaration], str]


@dataclass(frozen=True, slots=True)
class Right:
    """A privilege on a schema, table or function; `columns` empty: on the whole of it. `name` of a function: signed."""

    privilege: str
    kind: Literal["SCHEMA", "TABLE", "FUNCTION"]
    schema: str
    name: str = ""
    columns: tuple[str, ...] = ()

    def grant(self, role: str) -> str:
        """The statement that gives it."""
        columns = sql.SQL(" ({})").format(_listed(self.columns)) if self.columns else sql.SQL("")
        statement = sql.SQL("GRANT {}{} ON {} {} TO {};").format(
            _word(self.privilege), columns, _word(self.kind), self._place(), sql.Identifier(role)
        )
        return statement.as_string(None)

    def _place(self) -> sql.Composable:
        match self.kind:
            case "SCHEMA":
                return sql.Identifier(self.schema)
            case "TABLE":
                return sql.Identifier(self.schema, self.name)
            case "FUNCTION":
                return sql.Identifier(self.schema) + _word(f".{self.name}")


def rights(role: Role, registry: Registry, *, bookkeeping: str, schema_of: SchemaOf) -> list[Right]:
    """What a role needs. `schema_of`: where an entity's table is."""
    declarations = [d for d in registry if role is not Role.FLUSHER or isinstance(d.strategy, WriteBehind)]
    schemas = dict.fromkeys([bookkeeping, *map(schema_of, declarations)])
    found = [Right("USAGE", "SCHEMA", schema) for schema in schemas]
    if role is Role.MIGRATOR:
        # What it makes there it owns. Of the entities' tables it only reads the catalog.
        return [*found, Right("CREATE", "SCHEMA", bookkeeping)]
    found += _of_bookkeeping(role, declarations, bookkeeping)
    for declaration in declarations:
        table = schema_of(declaration), declaration.table
        found += _of_table(role, declaration, *table)
    return list(dict.fromkeys(found))


def prepare(role: Role, name: str, *, bookkeeping: str) -> list[str]:
    """What comes before the grants: the role, and for the migrator a schema of its own. Safe to run again."""
    named = sql.Identifier(name).as_string(None)
    quoted = sql.Literal(name).as_string(None)
    text = (
        f"BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {quoted}) "
        f"THEN CREATE ROLE {named} LOGIN; END IF; "
        f"EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), {quoted}); END"
    )
    found = [f"DO {sql.Literal(text).as_string(None).lstrip()};"]
    if role is Role.MIGRATOR:
        schema = sql.Identifier(bookkeeping).as_string(None)
        found.append(f"CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {named};")
    return found


def _of_bookkeeping(role: Role, declarations: Sequence[Declaration], schema: str) -> Iterator[Right]:
    def on(table: str, *privileges: str, columns: tuple[str, ...] = ()) -> Iterator[Right]:
        for privilege in privileges:
            yield Right(privilege, "TABLE", schema, table, columns)

    match role:
        case Role.PRODUCER:
            through = [d for d in declarations if isinstance(d.strategy, WriteBehind) and writes_rows(d)]
            if any(isinstance(d.strategy, WriteBehind) for d in declarations):
                yield from on("progress", "SELECT", columns=_PROGRESS)
            if through:
                yield from on("slot", "SELECT")
            yield from _of_merging(through, schema)
        case Role.FLUSHER:
            yield from on("migration", "SELECT")
            yield from on("slot", "SELECT")
            yield from on("progress", "SELECT", "INSERT", "UPDATE")
            yield from on("letter", "INSERT", columns=_LETTER)
            yield Right("EXECUTE", "FUNCTION", schema, ADVANCE)
            yield from _of_merging(declarations, schema)
        case _:
            for table in ("slot", "progress", "letter"):
                yield from on(table, "SELECT")
            yield from on("audit_run", "SELECT", "INSERT", "UPDATE", "DELETE")
            yield from on("audit_finding", "SELECT", "INSERT", "UPDATE")


def _of_merging(declarations: Iterable[Declaration], schema: str) -> Iterator[Right]:
    """What the statements of write-behind entities touch beside their tables."""
    strategies = [d.write_behind for d in declarations]
    if any(strategy.deletes for strategy in strategies):
        for privilege in ("SELECT", "INSERT", "UPDATE"):
            yield Right(privilege, "TABLE", schema, "tombstone")
    if any(strategy.on_missing == "dead_letter" for strategy in strategies):
        yield Right("EXECUTE", "FUNCTION", schema, ROW_MISSING)


def _of_table(role: Role, declaration: Declaration, schema: str, table: str) -> Iterator[Right]:
    keys = tuple(c.name for c in declaration.keys)
    written = tuple(c.name for c in declaration.fields)
    if declaration.version_column is not None:
        written += (declaration.version_column.name,)

    def on(privilege: str, columns: tuple[str, ...] = ()) -> Right:
        return Right(privilege, "TABLE", schema, table, columns)

    yield on("SELECT", keys + written)
    if role is Role.AUDITOR or (role is Role.PRODUCER and not writes_rows(declaration)):
        return
    yield on("UPDATE", written)
    strategy = declaration.strategy
    missing = strategy.on_missing if isinstance(strategy, WriteBehind) else "insert"
    if missing == "insert":
        yield on("INSERT", keys + written)
    elif missing == "dead_letter":
        yield on("INSERT", keys)  # asked for by the statement that raises in its place, and never used
    if not isinstance(strategy, WriteBehind) or strategy.deletes:
        yield on("DELETE")


def _listed(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _word(text: str) -> sql.SQL:
    return sql.SQL(text)  # pyright: ignore[reportArgumentType]  # a constant of this file

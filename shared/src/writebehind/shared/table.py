"""A table as the catalog describes it, compared with a declaration.

No I/O: `sql/table.sql` is run by whoever has a connection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from .declaration import Column, Declaration, VersionColumn

QUERY = (files("writebehind.shared") / "sql" / "table.sql").read_bytes()

Index = tuple[str, str]  # schema and name


@dataclass(frozen=True, slots=True)
class ColumnInfo:
    """A column. `type_name` is without a modifier (`numeric`), `full_type` with it (`numeric(12,2)`).

    `enum_labels` are those of an enum, or of the enum that an array holds; None for any other type. `deterministic`:
    text that differs in a byte is different text; a collation may say otherwise.
    """

    name: str
    type_name: str
    full_type: str
    nullable: bool
    default_expr: str | None
    generated: bool
    enum_labels: frozenset[str] | None
    deterministic: bool = True


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table, its columns by name, the column sets of its unique indexes, and these by the index's schema and name."""

    schema: str
    table: str
    columns: Mapping[str, ColumnInfo]
    unique_keys: frozenset[frozenset[str]]
    unique_indexes: Mapping[Index, frozenset[str]] = field(default_factory=dict[Index, frozenset[str]])

    def indexes_on_key(self, declaration: Declaration) -> frozenset[Index]:
        """The unique indexes that only a row with the same key can violate: on the key's columns, and maybe more."""
        key = {c.name for c in declaration.keys}
        return frozenset(index for index, columns in self.unique_indexes.items() if columns >= key)


@dataclass(frozen=True, slots=True)
class Problem:
    """A difference between declaration and table, and what mends it."""

    column: str | None
    message: str
    fix: str


def params(declaration: Declaration) -> dict[str, Any]:
    """The parameters of QUERY."""
    return {"schema": declaration.schema, "table": declaration.table}


def parse(rows: Sequence[Sequence[Any]]) -> TableInfo | None:
    """The table that QUERY's rows describe, or None when there is none."""
    if not rows:
        return None
    columns = {
        name: ColumnInfo(
            name, type_name, full_type, nullable, default, generated, frozenset(labels) if labels else None, exact
        )
        for _, _, name, type_name, full_type, nullable, default, generated, labels, exact, _ in rows
    }
    schema, table = rows[0][0], rows[0][1]
    keys = [(frozenset[str](key), indexes) for key, indexes in rows[0][-1] or []]
    indexes_by_name = {(place, name): key for key, indexes in keys for place, name in indexes}
    return TableInfo(schema, table, columns, frozenset(key for key, _ in keys), indexes_by_name)


def problems(declaration: Declaration, info: TableInfo | None) -> list[Problem]:
    """Every difference that would make a flush fail or change a value. Empty when the table is as declared."""
    name = f"{declaration.schema}.{declaration.table}" if declaration.schema else declaration.table
    quoted = f"{_quote(declaration.schema)}.{_quote(declaration.table)}" if declaration.schema else _quote(name)
    if info is None:
        message = f"{declaration.cls.__name__}: there is no table {name}"
        return [Problem(None, message, f"CREATE TABLE {quoted} (...), or fix table= and schema=")]
    place = f"{declaration.cls.__name__}: {info.schema}.{info.table}"
    found = [p for c in declaration.keys for p in _column_problems(place, info, c, is_key=True)]
    found += [p for c in declaration.fields for p in _column_problems(place, info, c, is_key=False)]
    keys = frozenset(c.name for c in declaration.keys)
    if keys not in info.unique_keys:
        listed = ", ".join(c.name for c in declaration.keys)
        message = f"{place} has no primary key or unique index on exactly ({listed})"
        columns = ", ".join(_quote(c.name) for c in declaration.keys)
        constraint = "UNIQUE" if info.unique_keys else "PRIMARY KEY"  # there may be a primary key already
        found.append(Problem(None, message, f"ALTER TABLE {_quoted_table(info)} ADD {constraint} ({columns})"))
    if declaration.version_column is not None:
        found += _version_problems(place, info, declaration.version_column)
    return found


def version_ddl(info: TableInfo, column: VersionColumn) -> str:
    """The statement that adds the column of versions."""
    return f"ALTER TABLE {_quoted_table(info)} ADD COLUMN {_quote(column.name)} {column.type_name}"


def _version_problems(place: str, info: TableInfo, column: VersionColumn) -> list[Problem]:
    there, many = info.columns.get(column.name), column.type_name == "bigint[]"
    whose = "the versions of its fields" if many else "the version of its rows"
    if there is None:
        return [Problem(column.name, f"{place} has no column {column.name} for {whose}", version_ddl(info, column))]
    if there.type_name != column.type_name:
        option = "WriteBehind(versions_column=...)" if many else "WriteThrough(version_column=...)"
        other = VersionColumn("versions_of_fields" if many else "version_of_row", column.type_name)
        fix = f"name another column: {option}, and {version_ddl(info, other)}"
        message = f"{place}.{column.name} is {there.full_type}; {column.type_name} is needed for {whose}"
        return [Problem(column.name, message, fix)]
    return []


def _column_problems(place: str, info: TableInfo, column: Column, *, is_key: bool) -> list[Problem]:
    there = info.columns.get(column.name)
    table = f"ALTER TABLE {_quoted_table(info)}"
    alter = f"{table} ALTER COLUMN {_quote(column.name)}"
    if there is None:
        before, wanted = _sql_type(column)
        message = f"{place} has no column {column.name}"
        return [Problem(column.name, message, f"{before}{table} ADD COLUMN {_quote(column.name)} {wanted}")]
    found: list[Problem] = []
    spot = f"{place}.{column.name}"
    if there.generated:
        message = f"{spot} is generated by the database and cannot be written"
        found.append(Problem(column.name, message, "leave it out of the declaration"))
    if is_key and _plain_name(there) == "citext":
        message = f"{spot} is citext; keys that differ in case would be two cache entries of one row"
        found.append(Problem(column.name, message, f"{alter} TYPE text"))
    elif is_key and not there.deterministic:
        # Two of its keys in one batch would also fail the MERGE: 21000, a row twice in one statement.
        message = (
            f"{spot} has a nondeterministic collation; keys that it calls equal would be two cache entries of one row"
        )
        found.append(Problem(column.name, message, f'{alter} TYPE {there.full_type} COLLATE "default"'))
    if not _type_fits(column, there):
        found.append(_wrong_type(spot, column, there, alter))
    if column.nullable and not there.nullable:
        message = f"{spot} is NOT NULL; the declaration allows None"
        found.append(Problem(column.name, message, f"declare it without `| None`, or {alter} DROP NOT NULL"))
    return found


def _wrong_type(spot: str, column: Column, there: ColumnInfo, alter: str) -> Problem:
    kind = column.kind
    if kind.labels is None or there.enum_labels is None or kind.name.endswith("[]") != there.type_name.endswith("[]"):
        before, wanted = _sql_type(column)
        needed = wanted if kind.labels is None else f"{kind.name} of {', '.join(sorted(kind.labels))}"
        # By way of text, which every type has a cast to and from: a value that does not fit stops the statement.
        fix = f"change the declaration, or {before}{alter} TYPE {wanted} USING {_quote(column.name)}::text::{wanted}"
        return Problem(column.name, f"{spot} is {there.full_type}; the declaration needs {needed}", fix)
    missing, unknown = sorted(kind.labels - there.enum_labels), sorted(there.enum_labels - kind.labels)
    differences = [f"{what} {', '.join(names)}" for what, names in (("lacks", missing), ("also has", unknown)) if names]
    type_name = there.type_name.removesuffix("[]")
    fixes = [f"ALTER TYPE {type_name} ADD VALUE {_literal(label)}" for label in missing]
    if unknown:
        fixes.append(f"add {', '.join(unknown)} to the declaration's enum")
    return Problem(column.name, f"{spot}: the enum {type_name} {' and '.join(differences)}", "; ".join(fixes))


def _type_fits(column: Column, there: ColumnInfo) -> bool:
    kind = column.kind
    if kind.labels is not None or there.enum_labels is not None:
        return kind.labels == there.enum_labels and kind.name.endswith("[]") == there.type_name.endswith("[]")
    if kind.name.startswith("numeric"):
        return there.full_type == kind.name
    if kind.name.startswith("timestamptz") and there.full_type != there.type_name:
        return False  # timestamp(3) with time zone: the column would round microseconds away
    return _plain_name(there) in kind.pg_types


def _plain_name(there: ColumnInfo) -> str:
    """The type's name. citext comes with an extension, which may live in a schema off the search_path."""
    name = there.type_name.rpartition(".")[2]
    return name if name in ("citext", "citext[]") else there.type_name


def _sql_type(column: Column) -> tuple[str, str]:
    """What has to be run before, and the column's type."""
    kind = column.kind
    if kind.labels is not None:
        name = _quote(f"{column.name}_enum")
        labels = ", ".join(map(_literal, sorted(kind.labels)))
        return f"CREATE TYPE {name} AS ENUM ({labels}); ", name + ("[]" if kind.name.endswith("[]") else "")
    if kind.name.startswith("numeric"):
        return "", kind.name
    return "", min(kind.pg_types, key=len)


def _quoted_table(info: TableInfo) -> str:
    return f"{_quote(info.schema)}.{_quote(info.table)}"


def _quote(name: str) -> str:
    # Always: whether a name is reserved depends on the server's version.
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

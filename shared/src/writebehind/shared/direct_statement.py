"""The statements of one cache-aside or write-through entity, generated from its declaration.

Each is a transaction of its own unless it runs in the caller's, and returns whole rows as they are then: key columns,
fields, version. There is one text per set of fields, so that Postgres prepares each once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql

from .declaration import Column, Declaration
from .entity import Merge

Part = sql.Composable
Positions = tuple[int, ...]  # of the fields that a write sets, in order

# A row's version never goes back, and is close to the time: an insert after a delete is newer than what was deleted.
_NOW_US = sql.SQL("(extract(epoch FROM clock_timestamp()) * 1000000)::bigint")


class DirectStatements:
    """The SQL of one entity, as text with binary placeholders.

    Parameters are in wire form: of `update` the fields in order of position, then the key; of `insert` the key, then
    the fields; of `delete` the key. With `many` they are lists, one per column, in the same order.
    column_types: the catalog's type name of each column (enums, jsonb and arrays travel as text and are cast to it).
    """

    def __init__(self, declaration: Declaration, *, schema: str, column_types: Mapping[str, str]) -> None:
        self._declaration = declaration
        self._types = column_types
        self._table = sql.Identifier(schema, declaration.table)
        version = declaration.version_column
        self._version = None if version is None else sql.Identifier(version.name)
        self._updates: dict[tuple[Positions, bool], bytes] = {}
        self._inserts: dict[Positions, bytes] = {}
        self.delete = self._delete()

    def update(self, positions: Positions, *, many: bool) -> bytes:
        """Change rows that exist."""
        text = self._updates.get((positions, many))
        if text is None:
            text = self._updates[positions, many] = self._update(positions, many=many)
        return text

    def insert(self, positions: Positions) -> bytes:
        """Add a row; what is left out gets the table's default."""
        text = self._inserts.get(positions)
        if text is None:
            text = self._inserts[positions] = self._insert(positions)
        return text

    def _update(self, positions: Positions, *, many: bool) -> bytes:
        d = self._declaration
        columns = [d.fields[position] for position in positions]
        sets = [self._set(c, sql.Identifier("s", f"v{c.position}") if many else _param(c)) for c in columns]
        if self._version is not None:
            mine = sql.SQL("t.{}").format(self._version)
            new = sql.SQL("GREATEST(COALESCE({}, 0) + 1, {})").format(mine, _NOW_US)
            sets.append(sql.SQL("{} = {}").format(self._version, new))
        if many:
            names = [*[f"v{c.position}" for c in columns], *[f"k{c.position}" for c in d.keys]]
            arrays = [sql.SQL("%b::{}[]").format(sql.SQL(c.kind.param_type)) for c in (*columns, *d.keys)]  # pyright: ignore[reportArgumentType]  # a constant of kinds.py
            source: Part = sql.SQL(" FROM unnest({}) AS s({})").format(
                sql.SQL(", ").join(arrays), sql.SQL(", ").join(map(sql.Identifier, names))
            )
            where: list[Part] = [
                sql.SQL("{} = {}").format(sql.Identifier("t", c.name), sql.Identifier("s", f"k{c.position}"))
                for c in d.keys
            ]
        else:
            source = sql.SQL("")
            where = self._key()
        return (
            sql.SQL("UPDATE {} AS t SET {}{} WHERE {} RETURNING {}")
            .format(self._table, sql.SQL(", ").join(sets), source, sql.SQL(" AND ").join(where), self._row())
            .as_bytes(None)
        )

    def _insert(self, positions: Positions) -> bytes:
        d = self._declaration
        columns = [*d.keys, *[d.fields[position] for position in positions]]
        names: list[Part] = [sql.Identifier(c.name) for c in columns]
        values: list[Part] = [self._cast(c, _param(c)) for c in columns]
        if self._version is not None:
            names.append(self._version)
            values.append(_NOW_US)
        return (
            sql.SQL("INSERT INTO {} AS t ({}) VALUES ({}) RETURNING {}")
            .format(self._table, sql.SQL(", ").join(names), sql.SQL(", ").join(values), self._row())
            .as_bytes(None)
        )

    def _delete(self) -> bytes:
        return (
            sql.SQL("DELETE FROM {} AS t WHERE {} RETURNING {}")
            .format(self._table, sql.SQL(" AND ").join(self._key()), self._row())
            .as_bytes(None)
        )

    def _set(self, c: Column, value: Part) -> Part:
        column, mine, given = sql.Identifier(c.name), sql.Identifier("t", c.name), self._cast(c, value)
        match c.merge:
            case Merge.LAST:
                return sql.SQL("{} = {}").format(column, given)
            case Merge.SUM:
                return sql.SQL("{} = COALESCE({}, 0) + {}").format(column, mine, given)
            case Merge.MAX:
                return sql.SQL("{} = GREATEST({}, {})").format(column, mine, given)  # leaves NULL out
            case Merge.MIN:
                return sql.SQL("{} = LEAST({}, {})").format(column, mine, given)

    def _cast(self, c: Column, value: Part) -> Part:
        # Only kinds that travel as text, and to the type without its modifier: a cast to varchar(3) would cut the text
        # short in silence, where the assignment raises 22001.
        if not c.kind.cast:
            return value
        type_name = self._types[c.name].replace("%", "%%").replace("{", "{{").replace("}", "}}")
        return sql.SQL("{}::" + type_name).format(value)  # pyright: ignore[reportArgumentType]  # from the catalog

    def _key(self) -> list[Part]:
        return [sql.SQL("{} = {}").format(sql.Identifier("t", c.name), _param(c)) for c in self._declaration.keys]

    def _row(self) -> Part:
        columns: list[Part] = []
        for c in (*self._declaration.keys, *self._declaration.fields):
            column = sql.Identifier("t", c.name)
            read_as = c.kind.read_as
            columns.append(column if read_as is None else sql.SQL("{}::" + read_as).format(column))  # pyright: ignore[reportArgumentType]  # a constant of kinds.py
        columns.append(sql.NULL if self._version is None else sql.SQL("t.{}").format(self._version))
        return sql.SQL(", ").join(columns)


def _param(c: Column) -> Part:
    return sql.SQL("%b::" + c.kind.param_type).format()  # pyright: ignore[reportArgumentType]  # a constant of kinds.py


def params_of(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows of parameters as the columns that a statement for many takes."""
    return [list(column) for column in zip(*rows, strict=True)]

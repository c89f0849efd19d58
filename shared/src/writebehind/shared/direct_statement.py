"""The statements of one cache-aside or write-through entity, generated from its declaration.

Each is a transaction of its own unless it runs in the caller's, and returns whole rows as they are then: key columns,
fields, version. There is one text per set of fields, so that Postgres prepares each once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from psycopg import sql

from .declaration import Column, Declaration
from .entity import Merge

Part = sql.Composable
Positions = tuple[int, ...]  # of the fields that a write sets, in order

# A row's version never goes back, and is close to the time: an insert after a delete is newer than what was deleted.
_NOW_US = sql.SQL("(extract(epoch FROM clock_timestamp()) * 1000000)::bigint")


class Statement(NamedTuple):
    """A text with parameters $1, $2, ..., in binary form, and their types; none are told of those that are arrays."""

    text: bytes
    types: tuple[str, ...] = ()


class DirectStatements:
    """The SQL of one entity.

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
        self._updates: dict[tuple[Positions, bool], Statement] = {}
        self._inserts: dict[Positions, Statement] = {}
        self.delete = self._delete()

    def update(self, positions: Positions, *, many: bool) -> Statement:
        """Change rows that exist."""
        statement = self._updates.get((positions, many))
        if statement is None:
            statement = self._updates[positions, many] = self._update(positions, many=many)
        return statement

    def insert(self, positions: Positions) -> Statement:
        """Add a row; what is left out gets the table's default."""
        statement = self._inserts.get(positions)
        if statement is None:
            statement = self._inserts[positions] = self._insert(positions)
        return statement

    def _update(self, positions: Positions, *, many: bool) -> Statement:
        d = self._declaration
        columns = [d.fields[position] for position in positions]
        numbers = itertools.count(1)
        sets = [self._set(c, sql.Identifier("s", f"v{c.position}") if many else _param(c, numbers)) for c in columns]
        if self._version is not None:
            mine = sql.SQL("t.{}").format(self._version)
            new = sql.SQL("GREATEST(COALESCE({}, 0) + 1, {})").format(mine, _NOW_US)
            sets.append(sql.SQL("{} = {}").format(self._version, new))
        if many:
            names = [*[f"v{c.position}" for c in columns], *[f"k{c.position}" for c in d.keys]]
            arrays = [_param(c, numbers, "[]") for c in (*columns, *d.keys)]
            source: Part = sql.SQL(" FROM unnest({}) AS s({})").format(
                sql.SQL(", ").join(arrays), sql.SQL(", ").join(map(sql.Identifier, names))
            )
            where: list[Part] = [
                sql.SQL("{} = {}").format(sql.Identifier("t", c.name), sql.Identifier("s", f"k{c.position}"))
                for c in d.keys
            ]
        else:
            source = sql.SQL("")
            where = self._key(numbers)
        text = (
            sql.SQL("UPDATE {} AS t SET {}{} WHERE {} RETURNING {}")
            .format(self._table, sql.SQL(", ").join(sets), source, sql.SQL(" AND ").join(where), self._row())
            .as_bytes(None)
        )
        return Statement(text) if many else _statement(text, (*columns, *d.keys))

    def _insert(self, positions: Positions) -> Statement:
        d = self._declaration
        columns = [*d.keys, *[d.fields[position] for position in positions]]
        names: list[Part] = [sql.Identifier(c.name) for c in columns]
        numbers = itertools.count(1)
        values: list[Part] = [self._cast(c, _param(c, numbers)) for c in columns]
        if self._version is not None:
            names.append(self._version)
            values.append(_NOW_US)
        text = (
            sql.SQL("INSERT INTO {} AS t ({}) VALUES ({}) RETURNING {}")
            .format(self._table, sql.SQL(", ").join(names), sql.SQL(", ").join(values), self._row())
            .as_bytes(None)
        )
        return _statement(text, columns)

    def _delete(self) -> Statement:
        where = sql.SQL(" AND ").join(self._key(itertools.count(1)))
        text = sql.SQL("DELETE FROM {} AS t WHERE {} RETURNING {}").format(self._table, where, self._row())
        return _statement(text.as_bytes(None), self._declaration.keys)

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
        type_name = self._types[c.name].replace("{", "{{").replace("}", "}}")
        return sql.SQL("{}::" + type_name).format(value)  # pyright: ignore[reportArgumentType]  # from the catalog

    def _key(self, numbers: Iterator[int]) -> list[Part]:
        keys = self._declaration.keys
        return [sql.SQL("{} = {}").format(sql.Identifier("t", c.name), _param(c, numbers)) for c in keys]

    def _row(self) -> Part:
        columns: list[Part] = []
        for c in (*self._declaration.keys, *self._declaration.fields):
            column = sql.Identifier("t", c.name)
            read_as = c.kind.read_as
            columns.append(column if read_as is None else sql.SQL("{}::" + read_as).format(column))  # pyright: ignore[reportArgumentType]  # a constant of kinds.py
        columns.append(sql.NULL if self._version is None else sql.SQL("t.{}").format(self._version))
        return sql.SQL(", ").join(columns)


def _param(c: Column, numbers: Iterator[int], array: str = "") -> Part:
    return sql.SQL(f"${next(numbers)}::{c.kind.param_type}{array}")  # pyright: ignore[reportArgumentType]  # a constant of kinds.py


def _statement(text: bytes, columns: Sequence[Column]) -> Statement:
    return Statement(text, tuple(c.kind.param_type for c in columns))


def params_of(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows of parameters as the columns that a statement for many takes."""
    return [list(column) for column in zip(*rows, strict=True)]

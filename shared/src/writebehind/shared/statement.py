"""The statements of one write-behind entity, generated from its declaration.

Their text is constant, so that Postgres prepares each once.

Why MERGE and not INSERT … ON CONFLICT: a patch leaves columns out, and ON CONFLICT refuses the patch of an existing
row when
a NOT NULL column is left out (23502 is raised before the conflict is seen). MERGE's price is a 23505 on the primary
key when
someone else inserts the same key at that moment; that one is transient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql

from .declaration import Column, Declaration
from .entity import Merge
from .fold import Folded

Part = sql.Composable

ROW_MISSING = "WB002"  # the SQLSTATE of a patch without a row, where that is to be a dead letter


class Statements:
    """The SQL of one write-behind entity, as text with binary placeholders, and the parameters that go with it.

    column_types: the catalog's type name of each column (enums, jsonb and arrays travel as text and are cast to it).
    defaults: the table's own default expression of each column, or None; used for what the patch of a missing
        row leaves out.
    slots: 1-based place of each versioned field in the row's array of versions.
    bookkeeping: the schema that holds `tombstone` and the function `row_missing`.
    """

    def __init__(
        self,
        declaration: Declaration,
        *,
        schema: str,
        column_types: Mapping[str, str],
        defaults: Mapping[str, str | None],
        slots: Mapping[str, int],
        bookkeeping: str,
    ) -> None:
        self._declaration = declaration
        self._types = column_types
        self._defaults = defaults
        self._slots = slots
        self._table = sql.Identifier(schema, declaration.table)
        self._versions = sql.Identifier(declaration.write_behind.versions_column)
        self.key_types = tuple(c.kind.param_type for c in declaration.keys)  # element types of the parameters' arrays
        self.merge_types = (
            *self.key_types,
            *(c.kind.param_type for c in declaration.fields),
            *("int8" for _ in declaration.versioned),
        )
        self.merge = _text(self._merge(bookkeeping))
        self.select = self.select_of(declaration, schema)
        # Rows that this transaction has written so far, in vain or not. 0 where the server counts none, such as of a
        # partitioned table.
        self.written = _text(
            sql.SQL(
                "SELECT pg_stat_get_xact_tuples_inserted(t) + pg_stat_get_xact_tuples_updated(t) "
                "FROM CAST({}::regclass AS oid) AS t"
            ).format(sql.Literal(self._table.as_string(None)))
        )
        self.delete = _text(self._delete())
        self.reset = _text(self._reset())
        tombstone = sql.Identifier(bookkeeping, "tombstone")
        self.bury = _text(
            sql.SQL(
                "INSERT INTO {} AS b (entity, key, version, deleted_at) SELECT {}, k, v, now() "
                "FROM unnest(%b::text[], %b::int8[]) AS s(k, v) ON CONFLICT (entity, key) "
                "DO UPDATE SET version = GREATEST(b.version, excluded.version), deleted_at = excluded.deleted_at"
            ).format(tombstone, sql.Literal(declaration.name))
        )
        self.tombstones = _text(
            sql.SQL("SELECT key, version FROM {} WHERE entity = {} AND key = ANY(%b::text[])").format(
                tombstone, sql.Literal(declaration.name)
            )
        )

    @staticmethod
    def select_of(declaration: Declaration, schema: str | None = None, *, one: bool = False) -> bytes:
        """Rows by key: key columns, fields, then the row's version or array of versions (NULL without either).

        Parameters: one list per key column; with `one` the key's columns, which takes half as long as a list of one.
        """
        d = declaration
        columns: list[Part] = [_read(c) for c in (*d.keys, *d.fields)]
        columns.append(sql.NULL if d.version_column is None else sql.Identifier("t", d.version_column.name))
        place = schema or d.schema
        table = sql.Identifier(place, d.table) if place else sql.Identifier(d.table)
        text = sql.SQL("SELECT {} FROM {} AS t").format(sql.SQL(", ").join(columns), table)
        if one:
            return _text(sql.SQL("{} WHERE {}").format(text, _is_key(d)))
        keys = _unnest([f"k{c.position}" for c in d.keys], [c.kind.param_type for c in d.keys])
        return _text(sql.SQL("{} JOIN {} ON {}").format(text, keys, _join(d)))

    def merge_params(self, folded: Folded) -> list[Sequence[Any]]:
        """The parameters of `merge`: one sequence per key column, per field, and per versioned field."""
        return [*folded.keys, *folded.values, *folded.versions]

    def delete_params(self, folded: Folded) -> list[Sequence[Any]]:
        """The parameters of `delete` and `reset`: one list per key column, and the versions of the deletes."""
        columns = [list(column) for column in zip(*[key for key, _ in folded.deletes], strict=True)]
        return [*columns, [version for _, version in folded.deletes]]

    def bury_params(self, folded: Folded) -> list[Sequence[Any]]:
        """The parameters of `bury`: key texts and the versions of the deletes."""
        text = self._declaration.key_text
        return [[text(key) for key, _ in folded.deletes], [version for _, version in folded.deletes]]

    def _merge(self, bookkeeping: str) -> Part:
        d = self._declaration
        names = (
            [f"k{c.position}" for c in d.keys]
            + [f"v{c.position}" for c in d.fields]
            + [f"n{c.position}" for c in d.versioned]
        )
        updates = [sql.SQL("{} = {}").format(sql.Identifier(c.name), self._updated(c)) for c in d.fields]
        inserts = [(sql.Identifier(c.name), _source("k", c)) for c in d.keys]
        inserts += [(sql.Identifier(c.name), self._inserted(c)) for c in d.fields]
        if d.versioned:
            updates.append(sql.SQL("{} = {}").format(self._versions, self._updated_versions()))
            inserts.append((self._versions, self._inserted_versions()))
        statement = sql.SQL("MERGE INTO {} AS t USING {} ON {} WHEN MATCHED THEN UPDATE SET {}").format(
            self._table, _unnest(names, self.merge_types), _join(self._declaration), sql.SQL(", ").join(updates)
        )
        match d.write_behind.on_missing:
            case "skip":
                return statement
            case "dead_letter":
                # The condition raises ROW_MISSING, so nothing is inserted. With DO NOTHING in its place the planner
                # leaves out the rows that do not match, and nobody asks the condition.
                raising = sql.Identifier(bookkeeping, "row_missing")
                return statement + sql.SQL(" WHEN NOT MATCHED AND {}() THEN INSERT DEFAULT VALUES").format(raising)
            case "insert":
                pass
        return statement + sql.SQL(" WHEN NOT MATCHED THEN INSERT ({}) VALUES ({})").format(
            sql.SQL(", ").join([name for name, _ in inserts]), sql.SQL(", ").join([value for _, value in inserts])
        )

    def _updated(self, c: Column) -> Part:
        ours, theirs = self._value(c), sql.Identifier("t", c.name)
        if c.merge is Merge.LAST:
            return sql.SQL("CASE WHEN {} > COALESCE({}, 0) THEN {} ELSE {} END").format(
                _source("n", c), self._slot(c), ours, theirs
            )
        if c.merge is Merge.SUM:
            total = sql.SQL("COALESCE({}, 0) + {}").format(theirs, ours)
            return sql.SQL("CASE WHEN {} IS NULL THEN {} ELSE {} END").format(ours, theirs, total)
        return sql.SQL("GREATEST({}, {})" if c.merge is Merge.MAX else "LEAST({}, {})").format(theirs, ours)

    def _inserted(self, c: Column) -> Part:
        """The value of a field in a new row: what a row of the table's own defaults would become by the patch."""
        ours, default = self._value(c), self._default(c)
        if c.merge is Merge.LAST:
            return sql.SQL("CASE WHEN {} IS NULL THEN {} ELSE {} END").format(_source("n", c), default, ours)
        if self._defaults.get(c.name) is None:
            return ours
        if c.merge is Merge.SUM:
            return sql.SQL("COALESCE({} + {}, {}, {})").format(default, ours, ours, default)
        return sql.SQL("GREATEST({}, {})" if c.merge is Merge.MAX else "LEAST({}, {})").format(default, ours)

    def _updated_versions(self) -> Part:
        """The row's array with our fields' slots raised.

        Slots of fields we do not know (a newer declaration's) are kept.
        """
        by_slot = {self._slots[c.name]: c for c in self._declaration.versioned}
        last = max(by_slot)
        parts: list[Part] = []
        for slot in range(1, last + 1):
            theirs = sql.SQL("t.{}[{}]").format(self._versions, sql.Literal(slot))
            parts.append(
                sql.SQL("GREATEST({}, {})").format(theirs, _source("n", by_slot[slot])) if slot in by_slot else theirs
            )
        return sql.SQL("ARRAY[{}]::int8[] || t.{}[{}:]").format(
            sql.SQL(", ").join(parts), self._versions, sql.Literal(last + 1)
        )

    def _inserted_versions(self) -> Part:
        by_slot = {self._slots[c.name]: c for c in self._declaration.versioned}
        parts = [_source("n", by_slot[slot]) if slot in by_slot else sql.NULL for slot in range(1, max(by_slot) + 1)]
        return sql.SQL("ARRAY[{}]::int8[]").format(sql.SQL(", ").join(parts))

    def _delete(self) -> Part:
        newest = sql.SQL("COALESCE((SELECT max(v) FROM unnest(t.{}) AS v), 0)").format(self._versions)
        return sql.SQL("DELETE FROM {} AS t USING {} WHERE {} AND {} <= s.d").format(
            self._table, self._deletes(), _join(self._declaration), newest
        )

    def _reset(self) -> Part:
        """A delete that arrives after newer writes: the fields older than it go back to their defaults, the
        others stay.
        """
        sets: list[Part] = []
        for c in self._declaration.versioned:
            default = self._default(c)
            if c.merge is Merge.SUM and self._defaults.get(c.name) is None:
                default = sql.SQL("0")  # and not NULL: the column may be NOT NULL
            sets.append(
                sql.SQL("{} = CASE WHEN COALESCE({}, 0) < s.d THEN {} ELSE {} END").format(
                    sql.Identifier(c.name), self._slot(c), default, sql.Identifier("t", c.name)
                )
            )
        if not sets:  # an entity without versions allows no deletes either
            return sql.SQL("SELECT")
        return sql.SQL("UPDATE {} AS t SET {} FROM {} WHERE {}").format(
            self._table, sql.SQL(", ").join(sets), self._deletes(), _join(self._declaration)
        )

    def _deletes(self) -> Part:
        names = [*[f"k{c.position}" for c in self._declaration.keys], "d"]
        return _unnest(names, [*self.key_types, "int8"])

    def _slot(self, c: Column) -> Part:
        return sql.SQL("t.{}[{}]").format(self._versions, sql.Literal(self._slots[c.name]))

    def _value(self, c: Column) -> Part:
        value = _source("v", c)
        # Only kinds that travel as text are cast, and to the type without its modifier: a cast to varchar(3)
        # would cut the text
        # short in silence, where the assignment raises 22001.
        return sql.SQL("{}::{}").format(value, _raw(self._types[c.name])) if c.kind.cast else value

    def _default(self, c: Column) -> Part:
        expression = self._defaults.get(c.name)
        return sql.NULL if expression is None else sql.SQL("({})").format(_raw(expression))


def _join(declaration: Declaration) -> Part:
    return sql.SQL(" AND ").join(
        [sql.SQL("{} = {}").format(sql.Identifier("t", c.name), _source("k", c)) for c in declaration.keys]
    )


def _is_key(declaration: Declaration) -> Part:
    return sql.SQL(" AND ").join(
        [sql.SQL("{} = %b::{}").format(sql.Identifier("t", c.name), _raw(c.kind.param_type)) for c in declaration.keys]
    )


def _read(c: Column) -> Part:
    column = sql.Identifier("t", c.name)
    return column if c.kind.read_as is None else sql.SQL("{}::{}").format(column, _raw(c.kind.read_as))


def _source(prefix: str, c: Column) -> Part:
    return sql.Identifier("s", f"{prefix}{c.position}")


def _unnest(names: Sequence[str], types: Sequence[str]) -> Part:
    arrays = [sql.SQL("%b::{}[]").format(_raw(name)) for name in types]
    return sql.SQL("unnest({}) AS s({})").format(
        sql.SQL(", ").join(arrays), sql.SQL(", ").join([sql.Identifier(name) for name in names])
    )


def _raw(text: str) -> Part:
    """SQL that comes from the catalog (a type's name, a default expression), where a `%` is not a placeholder."""
    escaped = text.replace("%", "%%").replace("{", "{{").replace("}", "}}")
    return sql.SQL(escaped).format()  # pyright: ignore[reportArgumentType]  # not a literal


def _text(statement: Part) -> bytes:
    return statement.as_bytes(None)

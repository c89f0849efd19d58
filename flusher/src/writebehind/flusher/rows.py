"""An entity's rows: asked for and written with its statements, on whatever connection the caller has."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import psycopg

from writebehind.shared.declaration import Declaration
from writebehind.shared.fold import Folded
from writebehind.shared.record import KEYS, Row
from writebehind.shared.statement import Statements

from .packed import Packed, pack

Command = tuple[bytes, Sequence[Packed]]  # a statement and its parameters


class Found(NamedTuple):
    """What the database has of some keys, by key text.

    `rows`: the fields, then the row's versions, as `Statements.select` gives them; `deleted`: the versions of the last
    deletes.
    """

    rows: Mapping[str, Sequence[Any]]
    deleted: Mapping[str, int]


class Rows:
    """What the flusher does to a table inside a transaction. Connections must be made by `database.connect`."""

    def __init__(self, declaration: Declaration, statements: Statements) -> None:
        self._declaration = declaration
        self._statements = statements

    def pack(self, folded: Folded) -> list[Packed]:
        """The parameters of the batch statement, ready to send. Raises when a value has no encoding."""
        if not folded.rows:
            return []
        return pack(self._statements.merge_types, self._statements.merge_params(folded))

    def tombstones_of(self, connection: psycopg.Connection[Any], rows: Sequence[Row]) -> dict[str, int]:
        """The version of the last delete of those records' keys that have one, by key text."""
        width = len(self._declaration.keys)
        return self.tombstones(connection, (self._declaration.key_text(row[KEYS : KEYS + width]) for row in rows))

    def tombstones(self, connection: psycopg.Connection[Any], texts: Iterable[str]) -> dict[str, int]:
        """The version of the last delete of those keys that have one, by key text. {} where nothing can be deleted."""
        if not self._declaration.write_behind.deletes:
            return {}
        return dict(connection.execute(self._statements.tombstones, (sorted(set(texts)),), prepare=True).fetchall())

    def apply(
        self, connection: psycopg.Connection[Any], folded: Folded, params: Sequence[Packed] | None = None
    ) -> None:
        """Write folded records. `params`: what `pack` gave for them, if that is known already."""
        for statement, packed in self.commands(folded, params):
            connection.execute(statement, packed, prepare=True)

    def commands(self, folded: Folded, params: Sequence[Packed] | None = None) -> list[Command]:
        """What writes folded records, in this order. Raises when a value has no encoding.

        Deletes first: a patch of the same batch that is left after the fold is newer than its key's delete.
        """
        commands: list[Command] = []
        if folded.deletes:
            bury = pack(("text", "int8"), self._statements.bury_params(folded))
            deletes = pack((*self._statements.key_types, "int8"), self._statements.delete_params(folded))
            commands += [
                (self._statements.bury, bury),
                (self._statements.delete, deletes),
                (self._statements.reset, deletes),
            ]
        if folded.rows:
            commands.append((self._statements.merge, params or self.pack(folded)))
        return commands

    @property
    def written(self) -> Command:
        """What asks how many rows of the table this transaction has written, those that were rolled back among them."""
        return self._statements.written, ()

    def find(self, connection: psycopg.Connection[Any], texts: Collection[str]) -> Found:
        """What there is of these keys."""
        width = len(self._declaration.keys)
        keys = zip(*map(self._declaration.parse_key, texts), strict=True)
        params = pack(self._statements.key_types, list(keys))
        rows = connection.execute(self._statements.select, params, binary=True).fetchall()
        found = {self._declaration.key_text(row[:width]): row[width:] for row in rows}
        return Found(found, self.tombstones(connection, texts))

"""Where the keys that are compared come from: the cache's own scan, the table, or a list."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from psycopg import sql

from .cache import CacheReader
from .options import Options, batches
from .store import Store, Table

Page = tuple[Any, dict[str, list[str]]]  # where the run begins again if it ends here, and key texts by entity
PAGE_KEYS = 1_000
RECENT_ROWS = 10_000  # rows with the newest versions come first, when the audit goes from the database


def scanned(cache: CacheReader, options: Options, foreign: dict[str, int], start: int) -> Iterator[Page]:
    """Pages of the cache's scan. `foreign` is told of what is no entry of the audited entities."""
    wanted = set(options.entities)
    only = options.entities[0] if len(options.entities) == 1 else None
    cursor = start
    while True:
        here = cursor
        cursor, names = cache.scan(cursor, PAGE_KEYS, only)
        page: dict[str, list[str]] = defaultdict(list)
        for name in dict.fromkeys(names):
            parsed = cache.parse(name)
            if parsed is not None and parsed[0] in wanted:
                page[parsed[0]].append(parsed[1])
            else:
                what = parsed[0] if parsed else "(no entry)"
                foreign[what] = foreign.get(what, 0) + 1
        yield here, page
        if cursor == 0:
            return


def listed(options: Options) -> Iterator[Page]:
    """The keys that were given."""
    for part in batches(options.keys, PAGE_KEYS):
        yield None, {options.entities[0]: part}


def stored(store: Store, tables: Sequence[Table], start: Any) -> Iterator[Page]:
    """The rows of the tables: the newest first where rows have versions, then all in the order of their keys."""
    names = [table.declaration.name for table in tables]
    begin = names.index(start[0]) if start else 0
    for table in tables[begin:]:
        name = table.declaration.name
        after = tuple(start[1]) if start and start[0] == name and start[1] else None
        newest = _texts(table, _newest(store, table)) if after is None else []
        for part in batches(newest, PAGE_KEYS):
            yield [name, None], {name: part}
        done = frozenset(newest)
        here = None if after is None else table.declaration.parse_key(after[0])
        while rows := _next(store, table, here):
            texts = [text for text in _texts(table, rows) if text not in done]
            yield [name, None if here is None else [table.declaration.key_text(here)]], {name: texts}
            here = rows[-1]


def _texts(table: Table, rows: Sequence[tuple[Any, ...]]) -> list[str]:
    return [table.declaration.key_text(row) for row in rows]


def _newest(store: Store, table: Table) -> list[tuple[Any, ...]]:
    column = table.declaration.version_column
    if column is None:
        return []
    of = "(SELECT max(v) FROM unnest(t.{}) AS v)" if column.type_name == "bigint[]" else "t.{}"
    newest = sql.SQL(of).format(sql.Identifier(column.name))
    query = sql.SQL("SELECT {} FROM {} AS t ORDER BY {} DESC NULLS LAST LIMIT {}").format(
        _keys(table), sql.Identifier(table.schema, table.declaration.table), newest, RECENT_ROWS
    )
    return store.run(lambda c: [table.key(row) for row in c.execute(query, binary=True)])


def _next(store: Store, table: Table, after: tuple[Any, ...] | None) -> list[tuple[Any, ...]]:
    keys, place = _keys(table), sql.Identifier(table.schema, table.declaration.table)
    where: sql.Composable = sql.SQL("")
    if after is not None:
        types = [sql.SQL("%b::" + c.kind.param_type) for c in table.declaration.keys]  # pyright: ignore[reportArgumentType]  # from our own kinds
        where = sql.SQL("WHERE ({}) > ({}) ").format(keys, sql.SQL(", ").join(types))
    query = sql.SQL("SELECT {} FROM {} AS t {}ORDER BY {} LIMIT {}").format(keys, place, where, keys, PAGE_KEYS)
    return store.run(lambda c: [table.key(row) for row in c.execute(query, after, binary=True)])


def _keys(table: Table) -> sql.Composed:
    return sql.SQL(", ").join([sql.Identifier("t", c.name) for c in table.declaration.keys])

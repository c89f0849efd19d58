"""The database, as the client sees it: rows for reads and bases, progress for receipts, and writes straight through."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from writebehind.shared import table, utc
from writebehind.shared.declaration import Declaration
from writebehind.shared.entity import Entity
from writebehind.shared.errors import ConfigurationError, DatabaseDown, NotApplied, RowMissing, Unknown
from writebehind.shared.fold import Folded, fold
from writebehind.shared.record import KEYS
from writebehind.shared.settings import DatabaseSettings
from writebehind.shared.statement import ROW_MISSING, Statements

from ..database_errors import translated
from ..write import Write
from .lent import AsyncLent, Pool, Watched
from .prepared import AsyncPreparing

log = logging.getLogger("writebehind.producer")

Place = tuple[str, int]


class AsyncRows:
    """A small pool, opened when first needed: a service that only writes may never need the database."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings
        self._pool: Pool | None = None
        self._statements: dict[str, Statements] = {}
        self._selects: dict[type[Entity], tuple[bytes, bytes]] = {}
        self._progress = sql.SQL(
            "SELECT p.topic, p.partition, p.next_offset FROM {} AS p JOIN unnest(%s::text[], %s::int[]) AS s(t, n) "
            "ON p.topic = s.t AND p.partition = s.n"
        ).format(sql.Identifier(settings.schema_, "progress"))

    async def select(
        self, declaration: Declaration, keys: Sequence[tuple[Any, ...]], timeout_s: float
    ) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        """Rows by key: the fields, then the array of versions or None. Raises DatabaseDown."""
        one, many = self._selects_of(declaration)
        width = len(declaration.keys)
        try:
            async with AsyncLent(await self.pool(), timeout_s) as connection:
                with Watched(connection, timeout_s):
                    if len(keys) == 1:
                        cursor = await connection.execute(one, keys[0], binary=True)
                    else:
                        columns = [list(column) for column in zip(*keys, strict=True)]
                        # Planned anew: the plan of a table that was empty goes over all of it, and would be kept.
                        cursor = await connection.execute(many, columns, binary=True, prepare=False)
                    rows = await cursor.fetchall()
        except (psycopg.OperationalError, PoolTimeout, OSError) as error:
            raise DatabaseDown(f"{declaration.name}: the database did not answer ({type(error).__name__})") from error
        except psycopg.Error as error:
            raise _misconfigured(declaration, error) from error
        return {row[:width]: row[width:] for row in rows}

    async def progress(self, places: Sequence[Place], timeout_s: float) -> dict[Place, int]:
        """Per partition the offset below which everything is in the database. Raises DatabaseDown."""
        topics, partitions = zip(*places, strict=True)
        try:
            async with AsyncLent(await self.pool(), timeout_s) as connection:
                with Watched(connection, timeout_s):
                    cursor = await connection.execute(self._progress, (list(topics), list(partitions)))
                    return {(topic, partition): offset for topic, partition, offset in await cursor.fetchall()}
        except (psycopg.OperationalError, PoolTimeout, OSError) as error:
            raise DatabaseDown(f"the database did not answer ({type(error).__name__})") from error
        except psycopg.Error as error:
            raise ConfigurationError(
                f"cannot read {self._settings.schema_}.progress (SQLSTATE {error.sqlstate}): run "
                f"`writebehind migrate`, and grant SELECT on it"
            ) from error

    async def write_through(self, declaration: Declaration, writes: Sequence[Write], timeout_s: float) -> Folded:
        """Write rows now, guarded by their versions, as the flusher would.

        Raises Refused, RowMissing, NotApplied, ConfigurationError or Unknown.
        """
        statements = await self._statements_of(declaration, timeout_s)
        rows = [_row(write) for write in writes]
        committing = False
        try:
            async with AsyncLent(await self.pool(), timeout_s) as connection:
                with Watched(connection, timeout_s):
                    await connection.execute("BEGIN")
                    folded = await _apply(connection, declaration, statements, rows)
                    committing = True
                    cursor = await connection.execute("COMMIT")
                if cursor.statusmessage != "COMMIT":
                    raise NotApplied(f"{declaration.name}: the database rolled the write back")
        except (psycopg.Error, PoolTimeout, OSError) as error:
            state = getattr(error, "sqlstate", None)
            if state == ROW_MISSING:
                what = f"{declaration.name}: there is no row of this key, and on_missing='dead_letter' makes none"
                raise RowMissing(what, state) from error
            failure = translated(declaration, error, sent=committing)
            raise Unknown(str(failure), writes[0].version) if isinstance(failure, Unknown) else failure from error
        return folded

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    def _selects_of(self, declaration: Declaration) -> tuple[bytes, bytes]:
        """The texts for one key and for many. To put one together takes as long as the database does to answer it."""
        known = self._selects.get(declaration.cls)
        if known is None:
            made = (Statements.select_of(declaration, one=True), Statements.select_of(declaration))
            known = self._selects[declaration.cls] = made
        return known

    async def _statements_of(self, declaration: Declaration, timeout_s: float) -> Statements:
        known = self._statements.get(declaration.name)
        if known is None:
            known = self._statements[declaration.name] = await self._load_statements(declaration, timeout_s)
        return known

    async def _load_statements(self, declaration: Declaration, timeout_s: float) -> Statements:
        slots_query = sql.SQL("SELECT column_name, slot FROM {} WHERE entity = %s").format(
            sql.Identifier(self._settings.schema_, "slot")
        )
        try:
            async with AsyncLent(await self.pool(), timeout_s) as connection:
                cursor = await connection.execute(table.QUERY, table.params(declaration))
                info = table.parse(await cursor.fetchall())
                cursor = await connection.execute(slots_query, (declaration.name,))
                slots: Mapping[str, int] = dict(await cursor.fetchall())
        except (psycopg.Error, PoolTimeout, OSError) as error:
            raise NotApplied(
                f"{declaration.name}: neither the broker nor the database takes the write ({type(error).__name__})"
            ) from error
        if info is None or table.problems(declaration, info) or any(c.name not in slots for c in declaration.versioned):
            raise ConfigurationError(
                f"{declaration.name}: the table is not as declared; `writebehind migrate --print` shows what is missing"
            )
        return Statements(
            declaration,
            schema=info.schema,
            column_types={name: column.type_name for name, column in info.columns.items()},
            defaults={name: column.default_expr for name, column in info.columns.items()},
            slots=slots,
            bookkeeping=self._settings.schema_,
        )

    async def pool(self) -> Pool:
        """The pool, opened when it is first asked for. Its connections commit each statement."""
        if self._pool is None:
            pool: Pool = AsyncConnectionPool(
                self._settings.url.get_secret_value(),
                connection_class=AsyncPreparing,
                kwargs={"autocommit": True, "connect_timeout": 5, "application_name": "writebehind-producer"},
                configure=_configure(self._settings),
                min_size=0,
                max_size=self._settings.pool_max,
                open=False,
                name="writebehind",
            )
            await pool.open()
            self._pool = pool
        return self._pool


def _configure(settings: DatabaseSettings) -> Any:
    limits = [f"{int(limit_s * 1000)}ms" for limit_s in (settings.statement_timeout_s, settings.lock_timeout_s)]
    text = "SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false)"

    async def configure(connection: psycopg.AsyncConnection[Any]) -> None:
        utc.register(connection)
        await connection.execute(text, limits)

    return configure


async def _apply(
    connection: psycopg.AsyncConnection[Any],
    declaration: Declaration,
    statements: Statements,
    rows: Sequence[tuple[Any, ...]],
) -> Folded:
    tombstones: dict[str, int] = {}
    if declaration.write_behind.deletes:
        texts = [declaration.key_text(row[KEYS : KEYS + len(declaration.keys)]) for row in rows]
        cursor = await connection.execute(statements.tombstones, (texts,))
        tombstones = dict(await cursor.fetchall())
    folded = fold(declaration, rows, tombstones)
    if folded.deletes:
        await connection.execute(statements.bury, statements.bury_params(folded))
        await connection.execute(statements.delete, statements.delete_params(folded))
        await connection.execute(statements.reset, statements.delete_params(folded))
    if folded.rows:
        params = [list(column) for column in statements.merge_params(folded)]
        await connection.execute(statements.merge, params, prepare=False)  # as in `select`
    return folded


def _row(write: Write) -> tuple[Any, ...]:
    """What the flusher would decode from the write's record."""
    return write.target.codec.decode([write.record()])[0]


def _misconfigured(declaration: Declaration, error: psycopg.Error) -> ConfigurationError:
    return ConfigurationError(
        f"{declaration.name}: cannot read table {declaration.table} (SQLSTATE {error.sqlstate}); "
        f"compare it with the declaration: "
        "`writebehind migrate --print` shows what is missing"
    )

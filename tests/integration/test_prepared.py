"""Connections that run the statements of cache-aside and write-through without a cursor, on a real server."""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
import threading
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from writebehind.embedded import Isolation
from writebehind.producer._async.prepared import PREPARED_MAX, AsyncPreparing, rows_of
from writebehind.producer._sync.prepared import Preparing
from writebehind.producer._sync.prepared import rows_of as rows_of_thread
from writebehind.shared import utc
from writebehind.shared.direct_statement import Statement

PATIENT_S = 30.0
ONE = Statement(b"SELECT $1::int8 AS n WHERE $1::int8 > 0", ("int8",))


class Side:
    """One connection, of tasks or of threads, called alike."""

    def __init__(self, connection: AsyncPreparing | Preparing) -> None:
        self.connection = connection

    async def rows(self, statement: Statement, *values: Any, timeout_s: float = PATIENT_S) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = await self._done(lambda: self.connection.rows(statement, values, timeout_s))
        return found

    async def by_cursor(self, statement: Statement, *values: Any) -> list[tuple[Any, ...]]:
        of: Any = rows_of if isinstance(self.connection, AsyncPreparing) else rows_of_thread
        found: list[tuple[Any, ...]] = await self._done(lambda: of(self.connection, statement, values))
        return found

    async def execute(self, text: bytes) -> None:
        await self._done(lambda: self.connection.execute(text))

    async def pid(self) -> int:
        return self.connection.info.backend_pid

    async def _done(self, call: Any) -> Any:
        if isinstance(self.connection, AsyncPreparing):
            found = call()
            return await found if inspect.isawaitable(found) else found
        return await asyncio.to_thread(call)


@pytest.fixture(params=["tasks", "threads"])
async def side(request: pytest.FixtureRequest, writebehind_isolated: Isolation) -> AsyncIterator[Side]:
    url = writebehind_isolated.database_url
    if request.param == "threads":
        with Preparing.connect(url, autocommit=True) as connection:
            utc.register(connection)
            yield Side(connection)
        return
    async with await AsyncPreparing.connect(url, autocommit=True) as connection:
        utc.register(connection)
        yield Side(connection)


@pytest.fixture
def other(writebehind_isolated: Isolation) -> Any:
    with psycopg.connect(writebehind_isolated.database_url, autocommit=True) as connection:
        yield connection


NEVER = dt.datetime(9999, 12, 31, 23, 59, 59, 999999, dt.UTC)
VALUES: dict[str, list[Any]] = {
    "int8": [0, 1, -1, 2**15, 2**31, 2**63 - 1, -(2**63), None],
    "numeric": [Decimal(0), Decimal("-1.500"), Decimal(10) ** 40, Decimal("1e-30"), Decimal("NaN"), None],
    "float8": [0.0, -1.5, 1e308, float("inf"), 5e-324, None],
    "text": ["", "a", "ü\n'\"\\%b$1", "😀" * 300, None],
    "bool": [True, False, None],
    "timestamptz": [NEVER, dt.datetime(1, 1, 1, tzinfo=dt.UTC), dt.datetime(2026, 1, 2, 3, 4, 5, 6, dt.UTC), None],
    "date": [dt.date.min, dt.date.max, dt.date(2000, 2, 29), None],
    "uuid": [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), None],
    "bytea": [b"", b"\x00\xff", bytes(9_000_000), None],  # more than a socket takes at once
}


@pytest.mark.parametrize("type_name", VALUES)
async def test_values_of_each_type_go_there_and_back(side: Side, type_name: str) -> None:
    statement = Statement(f"SELECT $1::{type_name}, pg_typeof($1::{type_name})::text".encode(), (type_name,))
    for value in VALUES[type_name]:
        ((found, _),) = await side.rows(statement, value)
        assert type(found) is type(value)
        assert repr(found) == repr(value) or found == value  # NaN is not equal to itself
        assert repr(await side.by_cursor(statement, value)) == repr([(found, _)])


async def test_rows_none_one_and_many(side: Side) -> None:
    many = Statement(b"SELECT n, 'x' || n FROM generate_series(1, $1::int8) AS n", ("int8",))
    assert await side.rows(ONE, 0) == []
    assert await side.rows(ONE, 7) == [(7,)]
    assert await side.rows(many, 3) == [(1, "x1"), (2, "x2"), (3, "x3")]
    assert await side.rows(Statement(b"SELECT 1"), *()) == [(1,)]


async def test_an_error_of_the_server_leaves_the_connection_usable(side: Side) -> None:
    statement = Statement(b"SELECT 10 / $1::int8", ("int8",))
    for _ in range(2):
        with pytest.raises(psycopg.errors.DivisionByZero) as caught:
            await side.rows(statement, 0)
        assert caught.value.sqlstate == "22012"
        assert await side.rows(statement, 5) == [(2,)]
    with pytest.raises(psycopg.errors.SyntaxError):
        await side.rows(Statement(b"SELEKT 1"))
    assert await side.rows(ONE, 1) == [(1,)]


async def test_a_statement_that_the_server_forgot_is_prepared_again(side: Side) -> None:
    assert await side.rows(ONE, 1) == [(1,)]
    await side.execute(b"DISCARD ALL")
    assert await side.rows(ONE, 2) == [(2,)]


async def test_a_table_that_has_changed_is_read_as_it_is_now(side: Side, other: psycopg.Connection[Any]) -> None:
    other.execute("CREATE TABLE changing (n int)")
    other.execute("INSERT INTO changing VALUES (1)")
    statement = Statement(b"UPDATE changing SET n = n + $1::int8 RETURNING n", ("int8",))
    assert await side.rows(statement, 1) == [(2,)]
    other.execute("ALTER TABLE changing ALTER n TYPE text")
    with pytest.raises(psycopg.errors.UndefinedFunction):
        await side.rows(statement, 1)
    other.execute("ALTER TABLE changing ALTER n TYPE numeric USING n::numeric")
    assert await side.rows(statement, 1) == [(Decimal(3),)]
    assert other.execute("SELECT n FROM changing").fetchall() == [(3,)]


async def test_only_so_many_statements_are_kept(side: Side) -> None:
    for n in range(PREPARED_MAX + 5):
        for value in (1, 2):
            assert await side.rows(Statement(f"SELECT $1::int8 + {n}".encode(), ("int8",)), value) == [(n + value,)]
    count = Statement(b"SELECT count(*) FROM pg_prepared_statements WHERE name <> ''")
    assert await side.rows(count) == [(PREPARED_MAX,)]


async def test_cursors_and_transactions_work_between(side: Side) -> None:
    await side.execute(b"CREATE TEMPORARY TABLE between (n bigint)")
    insert = Statement(b"INSERT INTO between VALUES ($1::int8) RETURNING n", ("int8",))
    await side.execute(b"BEGIN")
    assert await side.rows(insert, 1) == [(1,)]
    await side.execute(b"ROLLBACK")
    assert await side.rows(insert, 2) == [(2,)]
    assert await side.by_cursor(Statement(b"SELECT n FROM between")) == [(2,)]


async def test_a_server_that_does_not_answer_loses_the_connection(side: Side) -> None:
    assert await side.rows(ONE, 1, timeout_s=PATIENT_S) == [(1,)]  # its time must not be that of the next one
    with pytest.raises(psycopg.OperationalError):
        await side.rows(Statement(b"SELECT pg_sleep(60)"), timeout_s=0.2)
    assert side.connection.closed


async def test_a_server_that_ends_the_connection_says_why(side: Side, other: psycopg.Connection[Any]) -> None:
    def end() -> None:
        while not other.execute(
            "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND query LIKE '%%pg_sleep%%'", (pid,)
        ).fetchone():
            pass
        other.execute("SELECT pg_terminate_backend(%s)", (pid,))

    pid = await side.pid()
    ending = threading.Thread(target=end)
    ending.start()
    with pytest.raises(psycopg.OperationalError) as caught:
        await side.rows(Statement(b"SELECT pg_sleep(60)"))
    await asyncio.to_thread(ending.join)
    assert caught.value.sqlstate in ("57P01", None)
    assert side.connection.closed


async def test_a_connection_that_ended_while_nobody_used_it(side: Side, other: psycopg.Connection[Any]) -> None:
    assert await side.rows(ONE, 1) == [(1,)]
    other.execute("SELECT pg_terminate_backend(%s, 30000)", (await side.pid(),))
    await asyncio.sleep(0.1)  # the loop hears of it while nobody waits
    with pytest.raises(psycopg.OperationalError):
        await side.rows(ONE, 1)
    assert side.connection.closed


async def test_sockets_that_are_used_again_are_watched_anew(writebehind_isolated: Isolation) -> None:
    """A closed connection's descriptor is given to the next one."""
    seen = set()
    for n in range(5):
        connection = await AsyncPreparing.connect(writebehind_isolated.database_url, autocommit=True)
        seen.add(connection.fileno())
        assert await connection.rows(ONE, [n + 1], PATIENT_S) == [(n + 1,)]
        await connection.close()
    assert len(seen) < 5

"""A batch goes out in one piece: what is in it when its BEGIN is refused is not written either."""

from __future__ import annotations

from typing import Annotated

import psycopg
import pytest

from tests.integration.database_table import table_of
from writebehind.embedded.isolation import Isolation
from writebehind.shared.entity import Entity, Key, Sum, WriteBehind


class Click(Entity, table="click", strategy=WriteBehind()):
    id: Annotated[int, Key]
    hits: Annotated[int, Sum] = 0


DDL = "CREATE TABLE click (id bigint PRIMARY KEY, hits bigint NOT NULL DEFAULT 0, versions bigint[])"


def test_without_its_begin_nothing_of_a_batch_is_written(writebehind_isolated: Isolation) -> None:
    with table_of(writebehind_isolated, Click, DDL) as made:
        while not (prepared := _prepared(made.writer._connection)):
            made.patch((1, {"hits": 1}))
        [before] = made.read(1).values()
        connection = made.writer._connection
        assert connection is not None
        connection.pgconn.exec_(b"DEALLOCATE " + prepared.encode())  # as a pooler forgets it

        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            made.patch((1, {"hits": 1}))

        assert list(made.read(1).values()) == [before]
        made.patch((1, {"hits": 1}))
        assert made.read(1)[1,]["hits"] == before["hits"] + 1


def _prepared(connection: psycopg.Connection[tuple[str]] | None) -> str:
    """The name under which the server knows BEGIN, once it has been used a few times."""
    if connection is None:
        return ""
    found = connection.execute("SELECT name FROM pg_prepared_statements WHERE statement = 'BEGIN'").fetchone()
    return "" if found is None else found[0]

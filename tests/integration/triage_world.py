"""What the triage tests share: a small table, a login that a test may restrict, and writes that wait for a lock."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import psycopg
import pytest
from psycopg import sql

from tests.integration.database_table import Table
from tests.integration.flusher_process import TIMEOUT_S, wait_until
from writebehind.embedded.isolation import Isolation
from writebehind.embedded.postgres import unprivileged_user
from writebehind.flusher.triage import REPEATS_MAX, Verdict, triage
from writebehind.shared.entity import Entity, Key, Sum, WriteBehind


class Plain(Entity, table="plain", strategy=WriteBehind()):
    """A row 1 is there."""

    id: Annotated[int, Key]
    title: str | None = None
    hits: Annotated[int, Sum] = 0


DDL = """
CREATE TABLE plain (id bigint PRIMARY KEY, title text, hits bigint NOT NULL DEFAULT 0, versions bigint[]);
INSERT INTO plain VALUES (1, 'before')
"""
TRIGGER = """
CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} RETURN NEW; END $$;
CREATE TRIGGER act BEFORE INSERT OR UPDATE ON plain FOR EACH ROW EXECUTE FUNCTION act()
"""


def write(made: Table) -> None:
    """A batch that updates a row and inserts another."""
    made.patch((1, {"title": "a", "hits": 1}), (2, {"title": "b", "hits": 1}))


def failure(made: Table) -> psycopg.Error:
    """The error of such a batch."""
    with pytest.raises(psycopg.Error) as caught:
        write(made)
    return caught.value


def verdicts(made: Table, error: psycopg.Error) -> tuple[str | None, Verdict, Verdict]:
    """The SQLSTATE, and the verdicts at first and when the same failure comes again and again."""
    indexes = made.info.indexes_on_key(made.declaration)
    return error.sqlstate, triage(error, indexes), triage(error, indexes, repeats=REPEATS_MAX + 1)


@contextmanager
def other_session(url: str) -> Iterator[psycopg.Connection[Any]]:
    """Somebody else's connection, in a transaction that is rolled back unless it was committed."""
    with contextlib.closing(psycopg.connect(url, application_name="other")) as connection:
        yield connection


@contextmanager
def waiting_write(made: Table, holder: psycopg.Connection[Any]) -> Generator[tuple[int, Future[psycopg.Error]]]:
    """A batch that waits for a lock of `holder`: its backend's process id, and the error it will end with."""
    with ThreadPoolExecutor(1) as pool, psycopg.connect(made.url, autocommit=True) as monitor:
        query = "SELECT pid FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
        failing = pool.submit(failure, made)
        try:
            wait_until(lambda: failing.done() or monitor.execute(query, [holder.info.backend_pid]).fetchone(), "a wait")
            found = monitor.execute(query, [holder.info.backend_pid]).fetchone()
            assert found is not None, "the batch did not wait"
            yield found[0], failing
            failing.result(TIMEOUT_S)
        finally:
            holder.close()


@contextmanager
def login(corner: Isolation) -> Iterator[tuple[str, Isolation]]:
    """A role that logs in and may create in the corner: its name, and the corner with it as the user."""
    name = f"wb_test_{secrets.token_hex(4)}"
    role, schema = sql.Identifier(name), sql.Identifier(corner.schema)
    with psycopg.connect(corner.database_url, autocommit=True) as connection:
        database = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
        try:
            connection.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(database, role))
            connection.execute(sql.SQL("GRANT ALL ON SCHEMA {} TO {}").format(schema, role))
            user, _, rest = corner.database_url.partition("://")[2].partition("@")
            assert rest, user
            yield name, dataclasses.replace(corner, database_url=f"postgresql://{name}@{rest}")
        finally:
            connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(role))
            connection.execute(sql.SQL("DROP ROLE {}").format(role))


def administer(corner: Isolation, statement: str) -> None:
    """Run a statement as the superuser."""
    with psycopg.connect(corner.database_url, autocommit=True) as connection:
        connection.execute(statement.encode())


@contextmanager
def small_tablespace(corner: Isolation) -> Iterator[str]:
    """The name of a tablespace on a file system of 4 MiB. Skips the test where none can be mounted."""
    user = unprivileged_user()
    if user is None:
        pytest.skip("a small file system to fill cannot be mounted: this needs root")
    name, folder = f"wb_test_{secrets.token_hex(4)}", Path(tempfile.mkdtemp(prefix="wb-full-"))
    folder.chmod(0o711)
    options = f"size=4m,mode=700,uid={user[0]},gid={user[1]}"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode != 0:
        folder.rmdir()
        pytest.skip(f"a small file system to fill cannot be mounted: {done.stderr.decode().strip()}")
    try:
        administer(corner, f"CREATE TABLESPACE \"{name}\" LOCATION '{folder}'")
        try:
            yield name
        finally:
            administer(corner, f'DROP TABLESPACE "{name}"')
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()

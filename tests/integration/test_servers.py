"""A command's connection to a real database: what was done together, its time-outs, and what its errors become."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from writebehind.embedded import Isolation
from writebehind.flusher.servers import Unreachable, database
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.settings import DatabaseSettings


@pytest.fixture
def settings(writebehind_isolated: Isolation) -> DatabaseSettings:
    return DatabaseSettings.model_validate(
        {"url": writebehind_isolated.database_url, "statement_timeout_s": 7, "lock_timeout_s": 0.25}
    )


def test_a_connection_has_a_name_and_time_outs_and_commits(settings: DatabaseSettings) -> None:
    with database(settings, "the name") as connection:
        for name, value in (("application_name", "the name"), ("statement_timeout", "7s"), ("lock_timeout", "250ms")):
            assert connection.execute("SELECT current_setting(%s)", (name,)).fetchone() == (value,)
        connection.execute("CREATE TABLE kept ()")
    with database(settings, "the name") as connection:
        connection.execute("SELECT FROM kept")


def test_a_table_of_ours_that_is_missing_is_made_by_migrate(settings: DatabaseSettings) -> None:
    with pytest.raises(ConfigurationError, match="run `writebehind migrate`"), database(settings, "test") as connection:
        connection.execute("SELECT FROM nothing")


def test_what_the_server_says_is_told_and_nothing_is_kept(settings: DatabaseSettings) -> None:
    def fail() -> None:
        with database(settings, "test") as connection:
            connection.execute("CREATE TABLE gone ()")
            connection.execute("SELECT nothing FROM gone")

    with pytest.raises(ConfigurationError, match=r'\(42703\): column "nothing" does not exist'):
        fail()
    with database(settings, "test") as connection:
        assert connection.execute("SELECT to_regclass('gone')").fetchone() == (None,)


def test_a_connection_that_is_lost_is_told(settings: DatabaseSettings) -> None:
    with (
        pytest.raises(Unreachable, match="the database cannot be used"),
        database(settings, "test") as connection,
    ):
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def test_a_server_that_refuses_the_connection_is_not_waited_for(settings: DatabaseSettings) -> None:
    url = make_conninfo(settings.url.get_secret_value(), dbname="nowhere")
    with (
        pytest.raises(ConfigurationError, match="WRITEBEHIND_DATABASE__URL") as raised,
        database(settings.model_copy(update={"url": SecretStr(url)}), "test"),
    ):
        pytest.fail("there is no such database")
    assert not isinstance(raised.value, Unreachable)


def test_a_fault_of_ours_is_not_taken_for_one_of_the_database(settings: DatabaseSettings) -> None:
    with pytest.raises(psycopg.ProgrammingError), database(settings, "test") as connection:
        connection.execute("SELECT %s", ())

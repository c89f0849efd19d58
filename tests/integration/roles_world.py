"""A corner of guarded servers with tables of every strategy, for the tests of `grants` and `check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from tests.integration.flusher_process import run_command
from tests.integration.guarded import ROLES, Corner, Guarded, settings_of
from tests.integration.mixed_world import DDL as PEOPLE
from tests.integration.rights import give, printed
from writebehind.shared.settings import Settings

MODULES: Final = ("tests.integration.mixed_world", "tests.integration.flusher_entities:Item")
DDL: Final = (
    f"{PEOPLE}; ALTER TABLE people ADD secret text; "
    "CREATE TABLE items (id bigint PRIMARY KEY, title text, stock bigint NOT NULL DEFAULT 0, best bigint, "
    "versions bigint[], secret text)"
)
SETTINGS: Final = {
    "WRITEBEHIND_ENTITIES": ",".join(MODULES),
    "WRITEBEHIND_KAFKA__PARTITIONS": "2",
    "WRITEBEHIND_FLUSHER__SESSION_TIMEOUT_S": "6",
}


@dataclass
class Roles:
    """A corner with tables and, for each role, all that it needs to log in. `env(role)`: its settings."""

    corner: Corner

    @property
    def servers(self) -> Guarded:
        return self.corner.servers

    def env(self, role: str) -> dict[str, str]:
        return {**self.corner.env_of(role), **SETTINGS}

    def settings(self, role: str, **groups: Mapping[str, Any]) -> Settings:
        """A role's settings, for what runs in this process."""
        return settings_of(self.env(role), **groups)

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """As the superuser. `{}` is the bookkeeping schema."""
        return execute(self.corner.database_url, statement, self.corner.bookkeeping_schema)

    def give(self, *roles: str) -> None:
        """Run what `writebehind grants` prints for these roles, and give each its password."""
        give(self.corner.plain, printed(self.env("migrator"), self.corner.schema, roles))


def execute(url: str, statement: str, bookkeeping: str = "") -> list[tuple[Any, ...]]:
    """Run a statement as whom the URL names."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.replace("{}", f'"{bookkeeping}"').encode())
        return cursor.fetchall() if cursor.description else []


@contextmanager
def roles(servers: Guarded) -> Iterator[Roles]:
    """Tables, the migrator's rights and its migration, then everybody's."""
    with servers.corner() as corner:
        made = Roles(corner)
        made.execute(DDL)
        made.give("migrator")
        run_command(made.env("migrator"), "migrate")
        made.give(*ROLES[1:])
        yield made

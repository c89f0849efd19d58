"""What the database says of the entities' tables. Reads only."""

from __future__ import annotations

from importlib.resources import files

from writebehind.shared import table
from writebehind.shared.registry import Registry
from writebehind.shared.settings import DatabaseSettings

from .. import servers
from .table_smells import Look, Writer

_OUTSIDE = (files("writebehind.flusher.explain") / "outside.sql").read_bytes()


def look(settings: DatabaseSettings, registry: Registry) -> dict[str, Look]:
    """By entity name. Raises ConfigurationError when the database cannot be asked."""
    found: dict[str, Look] = {}
    with servers.database(settings, "writebehind-explain") as connection:
        for declaration in registry:
            info = table.parse(connection.execute(table.QUERY, table.params(declaration)).fetchall())
            writers: list[Writer] = []
            if info is not None:
                place = {"schema": info.schema, "table": info.table}
                writers = [Writer(*row) for row in connection.execute(_OUTSIDE, place).fetchall()]
            found[declaration.name] = Look(info, writers)
    return found

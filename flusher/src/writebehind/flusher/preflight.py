"""Before a flusher starts: is everything as the declarations say? All problems at once, and nothing is flushed
before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
import redis
from psycopg import sql

from writebehind.shared import table
from writebehind.shared.declaration import Declaration
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings
from writebehind.shared.table import TableInfo

from .settle import connect as connect_cache


@dataclass(frozen=True, slots=True)
class Prepared:
    """An entity that can be flushed: its table, and the slot of each versioned field."""

    declaration: Declaration
    table: TableInfo
    slots: dict[str, int]


def preflight(settings: Settings, registry: Registry) -> dict[str, Prepared]:
    """Check tables, slots and the cache's eviction policy. Raises ConfigurationError listing every problem."""
    problems: list[str] = []
    prepared: dict[str, Prepared] = {}
    try:
        with psycopg.connect(
            settings.database.url.get_secret_value(), application_name="writebehind-preflight", connect_timeout=10
        ) as connection:
            for declaration in registry:
                info = table.parse(connection.execute(table.QUERY, table.params(declaration)).fetchall())
                slots = _slots(connection, settings.database.schema_, declaration)
                found = [
                    f"{problem.message}. To mend it: {problem.fix}" for problem in table.problems(declaration, info)
                ]
                if any(c.name not in slots for c in declaration.versioned):
                    found.append(
                        f"{declaration.cls.__name__}: fields without a slot for their version. To "
                        f"mend it: writebehind migrate"
                    )
                problems += found
                if info is not None and not found:
                    prepared[declaration.name] = Prepared(declaration, info, slots)
    except psycopg.errors.UndefinedTable as error:
        raise ConfigurationError(
            f"there are no bookkeeping tables in schema {settings.database.schema_}: run `writebehind migrate`"
        ) from error
    except psycopg.Error as error:
        raise ConfigurationError(f"the database cannot be used ({error.sqlstate or type(error).__name__})") from error
    problems += _cache_problems(settings)
    if problems:
        raise ConfigurationError("not ready to flush:\n" + "\n".join(f"  {problem}" for problem in problems))
    return prepared


def _slots(connection: psycopg.Connection[Any], schema: str, declaration: Declaration) -> dict[str, int]:
    query = sql.SQL("SELECT column_name, slot FROM {} WHERE entity = %s").format(sql.Identifier(schema, "slot"))
    return dict(connection.execute(query, (declaration.name,)).fetchall())


def _cache_problems(settings: Settings) -> list[str]:
    try:
        client = connect_cache(settings.cache, "writebehind-preflight")
    except ValueError:
        return ["WRITEBEHIND_CACHE__URL is not the URL of a cache, such as redis://user:password@host:port/0"]
    try:
        policy = str(client.config_get("maxmemory-policy").get("maxmemory-policy", ""))
    except (redis.RedisError, OSError):
        return []  # down, or CONFIG is not allowed: flushing does not need the cache
    finally:
        client.close()
    if policy.startswith("allkeys"):
        problem = f"the cache's maxmemory-policy {policy} may evict entries with pending writes"
        return [f"{problem}. To mend it: CONFIG SET maxmemory-policy volatile-lru"]
    return []

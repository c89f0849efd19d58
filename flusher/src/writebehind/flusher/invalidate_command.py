"""The command `writebehind invalidate`: forget cache entries of rows that were changed by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import psycopg
from psycopg import sql
from redis.exceptions import RedisError

from writebehind.shared.declaration import Declaration
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.invalidation import Invalidation
from writebehind.shared.settings import Settings
from writebehind.shared.strategy import Direct

from . import servers
from .cache import KEYS_PER_CALL
from .invalidations import Applier


def invalidate(settings: Settings, declaration: Declaration, keys: Sequence[str], where: str | None) -> int:
    """Forget the entries of these keys, or of the rows that `where` selects. Returns how many.

    keys: as key texts (`42`; `a|b` for a composite key, with %7C for a | inside a part).
    Raises ConfigurationError when it cannot be done: a write-behind entity, a key that is none, a server that is down.
    """
    if not isinstance(declaration.strategy, Direct):
        raise ConfigurationError(
            f"{declaration.name} is write-behind: its entries hold what no row has yet, and only the "
            "flusher changes its rows"
        )
    if bool(keys) == (where is not None):
        raise ConfigurationError("name the keys, or the rows by --where; not both")
    if where is None:
        return _forget(settings, declaration, iter([_canonical(declaration, key) for key in keys]))
    with servers.database(settings.database, "writebehind-invalidate") as connection:
        return _forget(settings, declaration, _selected(connection, declaration, where))


def _forget(settings: Settings, declaration: Declaration, texts: Iterator[str]) -> int:
    applier, count = Applier(settings), 0
    try:
        while batch := list(islice(texts, KEYS_PER_CALL)):
            applier.apply([Invalidation(declaration.name, text, "-") for text in batch], 0)
            count += len(batch)
    except (RedisError, OSError) as error:
        raise ConfigurationError(
            f"the cache does not answer ({type(error).__name__}): {count} entries were forgotten, run it again"
        ) from None
    finally:
        applier.close()
    return count


def _canonical(declaration: Declaration, text: str) -> str:
    """The text of the key as the producer writes it: 042 is 42."""
    try:
        return declaration.key_text(declaration.check_key(declaration.parse_key(text)))
    except ValueError as error:
        names = "|".join(c.name for c in declaration.keys)
        raise ConfigurationError(f"this is not a key of {declaration.name} ({names}): {error}") from None


def _selected(connection: psycopg.Connection[Any], declaration: Declaration, where: str) -> Iterator[str]:
    """The keys of the rows that an SQL condition selects, by a cursor of the server's: there may be millions."""
    columns = sql.SQL(", ").join([_key_column(c.name, c.kind.read_as) for c in declaration.keys])
    place = [declaration.schema, declaration.table] if declaration.schema else [declaration.table]
    statement = sql.SQL("SELECT {} FROM {} AS t WHERE ").format(columns, sql.Identifier(*place))
    with connection.cursor("invalidate") as cursor:
        cursor.execute(statement.as_bytes(None) + where.encode(), binary=True)
        for row in cursor:
            yield declaration.key_text(declaration.check_key(tuple(row)))


def _key_column(name: str, read_as: str | None) -> sql.Composable:
    column = sql.Identifier("t", name)
    return column if read_as is None else sql.SQL("{}::" + read_as).format(column)  # pyright: ignore[reportArgumentType]  # a constant of kinds.py

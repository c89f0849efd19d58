"""Watching the database while the replay runs: what is flushed, and how much went into one statement."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

_WINDOW_SAMPLES: Final = 8  # rates are over the last 8 samples: 2 s at four a second

_FLUSHED = "SELECT COALESCE(sum(next_offset), 0) FROM {} WHERE topic = ANY(%s)"
_ROWS = (
    "SELECT COALESCE(sum(n_tup_ins + n_tup_upd), 0) FROM pg_stat_user_tables "
    "WHERE schemaname = current_schema() AND relname IN ('routes', 'aircraft')"
)
# The flusher calls this function once per transaction, and a transaction has one statement for rows.
_STATEMENTS = (
    "SELECT COALESCE(sum(calls), 0) FROM pg_stat_user_functions WHERE schemaname = %s AND funcname = 'advance'"
)


@dataclass(frozen=True, slots=True)
class Sample:
    """What the database knew at a moment (`at`, seconds): records flushed, rows written, statements that wrote them.

    `statements` is 0 where the server does not count calls (`track_functions` is off, as it is unless asked for).
    """

    at: float
    flushed: int
    rows: int
    statements: int

    @property
    def rows_per_statement(self) -> float | None:
        return self.rows / self.statements if self.statements else None


class Monitor:
    """One connection to the database; `sample` is one round of small queries."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], *, bookkeeping: str, topics: list[str]) -> None:
        self._connection = connection
        self._bookkeeping = bookkeeping
        self._topics = topics
        self._flushed = sql.SQL(_FLUSHED).format(sql.Identifier(bookkeeping, "progress"))

    async def sample(self, now: float) -> Sample:
        flushed = await self._number(self._flushed, self._topics)
        rows = await self._number(sql.SQL(_ROWS))
        statements = await self._number(sql.SQL(_STATEMENTS), self._bookkeeping)
        return Sample(now, flushed, rows, statements)

    async def _number(self, query: sql.SQL | sql.Composed, *params: Any) -> int:
        cursor = await self._connection.execute(query, params)
        row = await cursor.fetchone()
        return int(row[0]) if row else 0


class Rate:
    """Events per second over the last few samples. Pure: time and count are passed in."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=_WINDOW_SAMPLES)

    def update(self, now: float, count: int) -> float:
        self._samples.append((now, count))
        then, before = self._samples[0]
        return (count - before) / (now - then) if now > then else 0.0

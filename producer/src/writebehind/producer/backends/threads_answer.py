"""A database connection that a thread waits on for the answer to a statement."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import OperationalError, generators
from psycopg.pq.abc import PGresult


class Answering(psycopg.Connection[Any]):
    """The other side of `AsyncAnswering`: to wait takes a thread no longer than it must."""

    def answer(self, timeout_s: float) -> PGresult:
        """The result of what was sent, also when that is an error. Raises OperationalError, and then it is closed."""
        try:
            results: list[PGresult] = self.wait(generators.execute(self.pgconn), timeout=timeout_s)
            return results[-1]
        except OperationalError:
            self.close()
            raise

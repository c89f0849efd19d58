"""Loading timestamptz in UTC, whatever the session's time zone.

psycopg converts to the session's zone, and there 9999-12-31 23:59:59 UTC, a common "never", may lie in the year 10000.
"""

from __future__ import annotations

import datetime as dt
import struct

from psycopg import DataError
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format

EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)  # Postgres counts microseconds from here
_unpack = struct.Struct("!q").unpack


class UtcLoader(Loader):
    """For results in binary form, arrays included."""

    format = Format.BINARY

    def load(self, data: Buffer) -> dt.datetime:
        try:
            return EPOCH + dt.timedelta(microseconds=_unpack(data)[0])
        except OverflowError:
            raise DataError("a timestamp outside the years 1 to 9999") from None


def register(context: AdaptContext) -> None:
    """Load timestamptz in UTC on this connection."""
    context.adapters.register_loader("timestamptz", UtcLoader)

"""The entities of the benchmarks: three tables of one shape, so that each load has a topic of its own."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from writebehind.shared.entity import Entity, Key, Sum, WriteBehind


class _Row(Entity, abstract=True):
    id: Annotated[int, Key]
    name: str
    score: int
    updated_at: dt.datetime


class BenchInsert(_Row, table="bench_insert", strategy=WriteBehind()):
    """Every record is a new row."""


class BenchUpdate(_Row, table="bench_update", strategy=WriteBehind()):
    """Every record is an update of a random existing row."""


class BenchHot(_Row, table="bench_hot", strategy=WriteBehind()):
    """All records fall on 1,000 rows."""


class BenchClean(_Row, table="bench_clean", strategy=WriteBehind()):
    """What refused records are compared with."""


class BenchPoison(_Row, table="bench_poison", strategy=WriteBehind()):
    """Some records are refused."""


class BenchTraced(_Row, table="bench_traced", strategy=WriteBehind()):
    """Some records were written within a trace."""


class BenchTally(Entity, table="bench_tally", strategy=WriteBehind()):
    """Each write adds one, so that a lost or a doubled one shows, and leaves a value that the newest write decides."""

    id: Annotated[int, Key]
    hits: Annotated[int, Sum] = 0
    note: int | None = None


DDL = """
DROP TABLE IF EXISTS {table};
CREATE TABLE {table} (
    id bigint PRIMARY KEY, name text NOT NULL, score bigint NOT NULL, updated_at timestamptz NOT NULL, versions bigint[]
) WITH (fillfactor = 80)
"""

FILL = """
INSERT INTO {table} SELECT n, 'name ' || n, n, now(), '{{1,1,1}}' FROM generate_series(0, {rows} - 1) AS n;
VACUUM ANALYZE {table}
"""

TALLY_DDL = (
    "CREATE TABLE bench_tally (id bigint PRIMARY KEY, hits bigint NOT NULL DEFAULT 0, note bigint, versions bigint[])"
    " WITH (fillfactor = 80)"
)

TALLY_FILL = "INSERT INTO bench_tally (id) SELECT generate_series(0, {rows} - 1)"

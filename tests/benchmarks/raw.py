"""The raw limits that the flusher is measured against, on the same servers in the same run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
from confluent_kafka import Consumer, TopicPartition

from writebehind.flusher.database import connect
from writebehind.flusher.packed import Packed, pack
from writebehind.shared.fold import Folded, fold
from writebehind.shared.record import Row
from writebehind.shared.statement import Statements

from .entities import DDL, FILL
from .load import PARTITIONS, Load

Writing = Callable[[Folded], tuple[bytes, Sequence[Packed]]]  # the statement that writes a batch, and its parameters

BARE_DDL = """
DROP TABLE IF EXISTS bench_bare;
CREATE TABLE bench_bare (id bigint PRIMARY KEY, name text, score bigint, updated_at timestamptz, ver bigint) WITH
(fillfactor = 80)
"""
BARE_FILL = (
    "INSERT INTO bench_bare SELECT n, 'name ' || n, n, now(), 1 FROM generate_series(0, {rows} - 1) AS "
    "n; VACUUM ANALYZE bench_bare"
)
BARE_UPSERT = (
    "INSERT INTO bench_bare AS t (id, name, score, updated_at, ver) "
    "SELECT * FROM unnest(%b::int8[], %b::text[], %b::int8[], %b::timestamptz[], %b::int8[]) ON "
    "CONFLICT (id) DO UPDATE SET "
    "name = excluded.name, score = excluded.score, updated_at = excluded.updated_at, ver = "
    "excluded.ver WHERE t.ver < excluded.ver"
)


def prepare_table(load: Load, url: str) -> None:
    """The load's table as it is before each run, with the write-ahead log settled."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (DDL + (";" + FILL if load.table_rows else "")).split(";"):
            connection.execute(statement.format(table=load.declaration.table, rows=load.table_rows).encode())
        connection.execute("CHECKPOINT")


def guarded(load: Load, url: str, *, batch_rows: int, connections: int = 1) -> float:
    """Records/s of the flusher's own statement from ready arrays: nothing but Postgres and the driver."""
    rows = load.rows()
    shards = [[row for row in rows if row[4] % connections == n] for n in range(connections)]  # disjoint, as partitions
    return _timed(len(rows), [batches_of(load, shard, batch_rows) for shard in shards], url, merging(load))


def bare_row_level(load: Load, url: str, *, batch_rows: int) -> float:
    """Records/s of the cheaper statement that guards whole rows by one version and always writes all columns."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (BARE_DDL + ";" + BARE_FILL.format(rows=load.table_rows)).split(";"):
            connection.execute(statement.encode())
        connection.execute("CHECKPOINT")
    rows = load.rows()
    types = ("int8", "text", "int8", "timestamptz", "int8")
    return _timed(
        len(rows),
        [batches_of(load, rows, batch_rows)],
        url,
        lambda folded: (BARE_UPSERT.encode(), pack(types, [*folded.keys, *folded.values, folded.versions[0]])),
    )


def batches_of(load: Load, rows: Sequence[Row], batch_rows: int) -> list[Folded]:
    return [fold(load.declaration, rows[at : at + batch_rows]) for at in range(0, len(rows), batch_rows)]


def merging(load: Load) -> Writing:
    """The flusher's own statement."""
    statements = Statements(
        load.declaration,
        schema="public",
        column_types={},
        defaults={},
        slots={c.name: slot for slot, c in enumerate(load.declaration.versioned, 1)},
        bookkeeping="writebehind",
    )
    return lambda folded: (statements.merge, pack(statements.merge_types, statements.merge_params(folded)))


def commit(connection: psycopg.Connection[Any], writing: Writing, folded: Folded) -> None:
    """Write a batch in a transaction of its own."""
    connection.execute("BEGIN")
    text, params = writing(folded)
    connection.execute(text, params, prepare=True, binary=True)
    connection.execute("COMMIT")


def _timed(records: int, ready: Sequence[Sequence[Folded]], url: str, writing: Writing) -> float:
    errors: list[BaseException] = []

    def write(batches: Sequence[Folded]) -> None:
        try:
            with connect(url, name="bench raw", statement_timeout_s=60, lock_timeout_s=60) as connection:
                for folded in batches:
                    commit(connection, writing, folded)
        except BaseException as error:  # noqa: BLE001  # raised by the caller
            errors.append(error)

    threads = [threading.Thread(target=write, args=(batches,)) for batches in ready]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = time.perf_counter() - began
    if errors:
        raise errors[0]
    return records / took_s


def consume(load: Load, bootstrap_servers: str) -> float:
    """Messages/s of a bare `consume()` loop over the load's topic, from the first message on."""
    counts = consumed(load, bootstrap_servers)
    first = next(counts)
    began = time.perf_counter()
    rest = sum(counts)
    assert first + rest >= len(load.keys)
    return rest / (time.perf_counter() - began)


def consumed(load: Load, bootstrap_servers: str) -> Iterator[int]:
    """How many messages each bare `consume()` gives, until all of the load's are here."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "bench-raw",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "queued.min.messages": 100_000,
            "fetch.queue.backoff.ms": 10,
        }
    )
    consumer.assign([TopicPartition(load.topic, number, 0) for number in range(PARTITIONS)])
    seen = 0
    while seen < len(load.keys):
        messages = consumer.consume(5_000, 1.0)
        seen += len(messages)
        if messages:
            yield len(messages)
    consumer.close()

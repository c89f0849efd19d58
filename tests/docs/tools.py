"""As much of psql, pg_dump, pg_restore, redis-cli and kafka-topics as the pages use, for machines without them.

What they print is read with runs of spaces and dashes as one.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql


def psql(arguments: list[str]) -> None:
    """`psql URL -c SQL …`, `psql URL -f FILE`, or statements on standard input."""
    url, *rest = arguments
    statements = [rest[i + 1] for i, option in enumerate(rest) if option == "-c"]
    statements += [Path(rest[i + 1]).read_text() for i, option in enumerate(rest) if option == "-f"]
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements or [sys.stdin.read()]:
            for part in filter(str.strip, statement.split(";")):
                _show(connection.execute(part.encode()))


def _show(cursor: psycopg.Cursor[Any]) -> None:
    if cursor.description is None:
        print(cursor.statusmessage)
        return
    rows = cursor.fetchall()
    table = [[column.name for column in cursor.description]]
    table += [["" if value is None else str(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    right = [bool(rows) and isinstance(value, int | float | Decimal) for value in (rows or [()])[0]]
    for number, line in enumerate(table):
        cells = [
            text.rjust(width) if number and to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right or [False] * len(widths), strict=True)
        ]
        print(f" {' | '.join(cells)}".rstrip())
        if number == 0:
            print("-+-".join("-" * (width + (0 if place else 1)) for place, width in enumerate(widths)))
    print(f"({len(rows)} row{'' if len(rows) == 1 else 's'})")


def pg_dump(arguments: list[str]) -> None:
    """`pg_dump --format=custom --file=FILE URL`: every table that we may see, as of one moment."""
    file, url = arguments[1].removeprefix("--file="), arguments[2]
    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        found: dict[tuple[str, str], bytes] = {}
        for table in _tables(connection):
            with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(*table))) as copy:
                found[table] = b"".join(bytes(block) for block in copy)
    Path(file).write_bytes(pickle.dumps(found))


def pg_restore(arguments: list[str]) -> None:
    """`pg_restore --clean --if-exists --dbname=URL FILE`: the tables as they were.

    `pg_restore --data-only --table=TABLE --dbname=URL FILE`: the rows of one, into an empty table. A table that is
    made anew by itself is refused: the real one leaves its primary key and its indexes out.
    """
    url = next(a.removeprefix("--dbname=") for a in arguments if a.startswith("--dbname="))
    only = [a.removeprefix("--table=") for a in arguments if a.startswith("--table=")]
    clean = "--clean" in arguments
    if clean == ("--data-only" in arguments) or (clean and only):
        sys.exit("pg_restore: give --clean, or --data-only with --table")
    found: dict[tuple[str, str], bytes] = pickle.loads(Path(arguments[-1]).read_bytes())  # noqa: S301  # written above
    with psycopg.connect(url) as connection:
        for table, rows in found.items():
            if only and table[1] not in only:
                continue
            if clean:
                connection.execute(sql.SQL("TRUNCATE {} CASCADE").format(sql.Identifier(*table)))
            with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(*table))) as copy:
                copy.write(rows)


def _tables(connection: psycopg.Connection[Any]) -> Iterator[tuple[str, str]]:
    query = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = ANY(%s) ORDER BY 1, 2"
    yield from connection.execute(query, (os.environ["DOCS_SCHEMAS"].split(","),)).fetchall()


def redis_cli(arguments: list[str]) -> None:
    """`redis-cli -u URL COMMAND …` and `redis-cli -u URL --scan --pattern PATTERN`."""
    import redis

    client = redis.Redis.from_url(arguments[1], decode_responses=True)
    if arguments[2] == "--scan":
        print("\n".join(client.scan_iter(match=arguments[4])))
        return
    answer: Any = client.execute_command(*arguments[2:])  # type: ignore[no-untyped-call]  # redis-py has no types for it
    print("OK" if answer is True else answer)


def kafka_topics(arguments: list[str]) -> None:
    """`kafka-topics --bootstrap-server ADDRESS --alter --topic TOPIC --partitions N`."""
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewPartitions

    rest = [a for a in arguments if a != "--alter"]
    given = dict(zip(rest[::2], rest[1::2], strict=True))
    client = AdminClient({"bootstrap.servers": given["--bootstrap-server"]})
    for done in client.create_partitions([NewPartitions(given["--topic"], int(given["--partitions"]))]).values():
        done.result(60)


if __name__ == "__main__":
    commands = {f.__name__.replace("_", "-"): f for f in (redis_cli, kafka_topics)}
    commands |= {f.__name__: f for f in (psql, pg_dump, pg_restore)}
    commands[sys.argv[1]](sys.argv[2:])

"""Triggers that note who writes what: each flusher's connections carry its number, so a zombie cannot hide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import psycopg

from tests.faults.checkers_owners import Kind, Note, Place

DATABASE: Final = "WRITEBEHIND_DATABASE__URL"
#: What only grows in a row: a sum of increments, or the version of its only field.
_GROWS: Final[Mapping[str, str]] = {"fault_counters": "NEW.hits", "fault_registers": "NEW.versions[1]"}
_NOTES: Final = """
CREATE TABLE fault_notes (
    id bigserial PRIMARY KEY, kind text NOT NULL, writer int NOT NULL, transaction bigint NOT NULL,
    place text NOT NULL, number bigint NOT NULL, epoch bigint NOT NULL, value bigint NOT NULL
);
CREATE INDEX ON fault_notes (place, number, id DESC) WHERE kind = 'claim'
"""
_FUNCTION: Final = """
CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO fault_notes (kind, writer, transaction, place, number, epoch, value) SELECT {kind},
        COALESCE(current_setting('fault.writer', true), '-1')::int, pg_current_xact_id()::text::bigint, {values};
    RETURN NULL;
END
$$
"""
_TRIGGER: Final = "CREATE TRIGGER noted AFTER INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()"
_CLAIM_OR_FLUSH: Final = (
    "CASE WHEN TG_OP = 'INSERT' OR NEW.owner_epoch <> OLD.owner_epoch THEN 'claim' ELSE 'flush' END"
)
#: A planted bug, to see that the run finds it: progress moves whoever owns the partition, from wherever it is.
_UNFENCED: Final = """
CREATE OR REPLACE FUNCTION writebehind.advance(
    topics text[], partitions int[], epochs bigint[], expected bigint[], next bigint[]
) RETURNS void LANGUAGE sql AS $$
    UPDATE writebehind.progress AS p SET next_offset = s.next_offset
    FROM unnest(topics, partitions, next) AS s (topic, partition, next_offset)
    WHERE p.topic = s.topic AND p.partition = s.partition
$$
"""


def install(connection: psycopg.Connection[Any]) -> None:
    """Note everything from now on."""
    connection.execute(_NOTES)
    progress = "NEW.topic, NEW.partition, NEW.owner_epoch, NEW.next_offset"
    _note(connection, "writebehind.progress", "note_progress", _CLAIM_OR_FLUSH, progress)
    for table, value in _GROWS.items():
        _note(connection, table, f"note_{table}", "'row'", f"'{table}', NEW.id, 0, {value}")


def _note(connection: psycopg.Connection[Any], table: str, name: str, kind: str, values: str) -> None:
    connection.execute(_FUNCTION.format(name=name, kind=kind, values=values).encode())
    connection.execute(_TRIGGER.format(table=table, name=name).encode())


def remove_fence(connection: psycopg.Connection[Any]) -> None:
    """Plant a bug."""
    connection.execute(_UNFENCED)


def as_writer(env: Mapping[str, str], number: int) -> dict[str, str]:
    """Settings whose database connections carry a flusher's number."""
    options = quote(f"-cfault.writer={number}", safe="")
    return {**env, DATABASE: f"{env[DATABASE]}?options={options}"}


def owners(connection: psycopg.Connection[Any]) -> dict[Place, tuple[int, int]]:
    """Who claimed each partition last, and the number of that note."""
    query = (
        "SELECT DISTINCT ON (place, number) place, number, writer, id FROM fault_notes WHERE kind = 'claim'"
        " ORDER BY place, number, id DESC"
    )
    return {(topic, number): (writer, note) for topic, number, writer, note in connection.execute(query)}


def flushes(connection: psycopg.Connection[Any], writer: int, since: int) -> int:
    """How often a flusher moved progress after a note."""
    query = "SELECT count(*) FROM fault_notes WHERE kind = 'flush' AND writer = %s AND id > %s"
    row = connection.execute(query, (writer, since)).fetchone()
    return 0 if row is None else int(row[0])


def notes(connection: psycopg.Connection[Any]) -> list[Note]:
    """All notes, in order."""
    query = "SELECT kind, writer, transaction, place, number, epoch, value FROM fault_notes ORDER BY id"
    return [
        Note(Kind(kind), writer, transaction, (place, number), epoch, value)
        for kind, writer, transaction, place, number, epoch, value in connection.execute(query)
    ]

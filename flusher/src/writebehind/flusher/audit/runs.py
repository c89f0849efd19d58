"""The audit's history in Postgres: runs, where they stand, and what they found and repaired."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from ..who import person
from .store import Store
from .tally import Finding, Tally

FINDINGS_MAX = 10_000  # kept of one run; more are only counted
KEEP_DAYS = 90  # how long runs are remembered


@dataclass(frozen=True, slots=True)
class Kept:
    """A run as it was kept. `verified_through`: by entity, up to when everything cached was found in sync."""

    id: int
    started_at: str
    cursor: Any
    tallies: dict[str, Tally]


class Runs:
    """The tables `audit_run` and `audit_finding`."""

    def __init__(self, store: Store, schema: str) -> None:
        self._store = store
        self._run = sql.Identifier(schema, "audit_run")
        self._finding = sql.Identifier(schema, "audit_finding")
        self._recorded = 0

    def begin(self, identity: str) -> Kept:
        """A new run. Forgets those that are too old."""
        forget = sql.SQL("DELETE FROM {} WHERE started_at < now() - make_interval(days => %s)").format(self._run)
        self._store.run(lambda c: c.execute(forget, (KEEP_DAYS,)))
        insert = sql.SQL(
            "INSERT INTO {} (started_by, options) VALUES (%s, %s) "
            "RETURNING id, to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
        ).format(self._run)
        row = self._store.run(lambda c: c.execute(insert, (person(), identity)).fetchone())
        self._recorded = 0
        return Kept(row[0], row[1], None, {}) if row else Kept(0, "", None, {})

    def unfinished(self, identity: str) -> Kept | None:
        """The last run with these options, if it was interrupted."""
        select = sql.SQL(
            "SELECT id, to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), cursor, entities, "
            "finished_at IS NULL FROM {} WHERE options = %s ORDER BY id DESC LIMIT 1"
        ).format(self._run)
        row = self._store.run(lambda c: c.execute(select, (identity,)).fetchone())
        if row is None or not row[4] or row[2] is None:
            return None
        return Kept(row[0], row[1], row[2], {name: Tally.from_json(told) for name, told in row[3].items()})

    def save(self, run: int, cursor: Any, entities: Mapping[str, Any], *, finished: bool = False) -> None:
        """Where a run stands, and its counts."""
        update = sql.SQL(
            "UPDATE {} SET updated_at = now(), cursor = %s, entities = %s, "
            "finished_at = CASE WHEN %s THEN now() END WHERE id = %s"
        ).format(self._run)
        values = (json.dumps(cursor), json.dumps(entities), finished, run)
        self._store.run(lambda c: c.execute(update, values))

    def record(self, run: int, findings: Sequence[Finding]) -> None:
        """What was found, and what was done about it."""
        kept = findings[: max(0, FINDINGS_MAX - self._recorded)]
        self._recorded += len(kept)
        if not kept:
            return
        by = person()
        insert = sql.SQL(
            "INSERT INTO {} (run, entity, key, verdict, fields, entry_version, row_version, repair, repaired_by) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (run, entity, key) DO UPDATE SET "
            "verdict = excluded.verdict, fields = excluded.fields, entry_version = excluded.entry_version, "
            "row_version = excluded.row_version, repair = excluded.repair, repaired_by = excluded.repaired_by, "
            "found_at = now()"
        ).format(self._finding)
        rows = [
            (
                run,
                f.entity,
                f.key_text.encode(errors="backslashreplace").decode(),
                str(f.verdict),
                list(f.fields),
                f.entry_version,
                f.row_version,
                f.repair,
                by if f.repair else None,
            )
            for f in kept
        ]

        def write(connection: Any) -> None:
            with connection.cursor() as cursor:
                cursor.executemany(insert, rows)

        self._store.run(write)

    def verified_through(self, entity: str) -> str | None:
        """When the newest run began that found everything of an entity in sync."""
        select = sql.SQL(
            "SELECT entities -> %s ->> 'verified_through' FROM {} WHERE finished_at IS NOT NULL AND entities ? %s "
            "ORDER BY id DESC LIMIT 1"
        ).format(self._run)
        row = self._store.run(lambda c: c.execute(select, (entity, entity)).fetchone())
        return None if row is None else row[0]

    def last_finding(self, entity: str, key_text: str) -> dict[str, Any] | None:
        """What an audit last said of a key that was not in sync, and what was done about it."""
        select = sql.SQL(
            "SELECT verdict, found_at, repair, repaired_by, run FROM {} WHERE entity = %s AND key = %s "
            "ORDER BY run DESC LIMIT 1"
        ).format(self._finding)
        row = self._store.run(lambda c: c.execute(select, (entity, key_text)).fetchone())
        if row is None:
            return None
        verdict, at, repair, by, run = row
        return {"verdict": verdict, "at": at.isoformat(), "repair": repair, "repaired_by": by, "run": run}

    def history(self, runs: int) -> list[dict[str, Any]]:
        """The newest finished runs, oldest first."""
        select = sql.SQL(
            "SELECT id, started_at, finished_at, entities FROM {} WHERE finished_at IS NOT NULL "
            "ORDER BY id DESC LIMIT %s"
        ).format(self._run)
        rows = self._store.run(lambda c: c.execute(select, (runs,)).fetchall())
        return [
            {"run": run, "started_at": start.isoformat(), "finished_at": end.isoformat(), "entities": entities}
            for run, start, end, entities in reversed(rows)
        ]

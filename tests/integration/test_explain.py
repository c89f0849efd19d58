"""`writebehind explain` with a database: what only the catalog knows."""

from __future__ import annotations

import json

import psycopg
import pytest

from tests.unit.test_cli import run
from writebehind.embedded import Isolation

TABLES = """
CREATE TABLE plans (id bigint PRIMARY KEY);
CREATE TABLE users (
    id bigint PRIMARY KEY, name text, bio text, status text, version bigint, views bigint NOT NULL DEFAULT 0,
    email text NOT NULL, plan bigint REFERENCES plans ON DELETE SET NULL, boss bigint REFERENCES users
);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER told AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER off BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE users DISABLE TRIGGER off;
"""


def test_the_catalog_shows_who_else_writes_and_what_nobody_owns(
    writebehind_isolated: Isolation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in writebehind_isolated.env.items():
        monkeypatch.setenv(name, value)
    with psycopg.connect(writebehind_isolated.database_url, autocommit=True) as connection:
        connection.execute(TABLES.encode())

    assert run(monkeypatch, "explain", "--entities", "tests.unit.explain_entities", "--json") == 1

    said = json.loads(capsys.readouterr().out)
    assert said["not_looked_at"] is None
    table = f"{writebehind_isolated.schema}.users"
    assert [known["name"] for known in said["tables"]] == [table]
    smells = {(smell["code"], smell["place"], smell["what"]) for smell in said["smells"]}
    assert {smell for smell in smells if smell[0] not in ("makes-rows", "different-ttls")} == {
        ("unowned-columns", table, "no entity owns email, plan, boss"),
        ("no-default", "visits", "NOT NULL and no default: email"),
        ("past-the-library", table, "trigger touch may change rows before INSERT and UPDATE"),
        (
            "past-the-library",
            table,
            "foreign key users_plan_fkey sets columns to NULL when the row they point to is deleted",
        ),
    }

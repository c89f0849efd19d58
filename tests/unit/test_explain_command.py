"""`writebehind explain` as a command: no server is needed, and the exit code says whether something smells."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.unit.test_cli import SETTINGS, run

MIXED = ("explain", "--entities", "tests.unit.explain_entities")
CLEAN = ("explain", "--entities", "tests.unit.explain_entities:Profile")


@pytest.fixture(autouse=True)
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WRITEBEHIND_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("arguments", "code"), [(MIXED, 1), (CLEAN, 0), ((*MIXED, "--accept", "makes-rows"), 1)])
def test_declarations_alone_are_enough(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int
) -> None:
    assert run(monkeypatch, *arguments) == code
    said = capsys.readouterr().out
    assert "The database was not looked at (not all addresses of the servers are set)" in said


def test_a_database_that_does_not_answer_is_said_and_its_password_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    assert run(monkeypatch, *CLEAN) == 0
    output = capsys.readouterr()
    assert "The database was not looked at (the database cannot be reached" in output.out
    assert "s3cret" not in output.out + output.err


def test_json_has_everything_and_the_configured_numbers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WRITEBEHIND_KAFKA__RETENTION_MS", "7200000")
    assert run(monkeypatch, *MIXED, "--offline", "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert said["warnings"] == len(said["smells"]) == 3
    assert said["not_looked_at"] == "--offline"
    visits = said["tables"][0]["entities"][2]
    assert 7200.0 in [age["at_most_s"] for age in visits["ages"]]


def test_markdown_is_a_page_for_a_review(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, *CLEAN, "--markdown") == 0
    page = capsys.readouterr().out
    assert page.startswith("## Table users\n\n| column | entity |")
    assert "### profile: cache-aside" in page


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("explain",), {}, "--entities"),
        ((*MIXED, "--json", "--markdown"), {}, "give one of them"),
        (MIXED, {"WRITEBEHIND_KAFKA__PARTITIONS": "many"}, "WRITEBEHIND_KAFKA__PARTITIONS"),
        ((*MIXED, "--offline"), {"WRITEBEHIND_CACHE__LEASE_S": "-1"}, "WRITEBEHIND_CACHE__LEASE_S"),
    ],
)
def test_what_cannot_run_is_said_with_exit_code_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    environment: dict[str, str],
    said: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run(monkeypatch, *arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert said in output.err

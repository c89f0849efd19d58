"""`writebehind compare` from the command line: on servers that it may not kill, and on its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from writebehind.embedded import ExistingServers, Stack

# A busy machine is not a sick cache, for which calls do without it.
PATIENT = {f"WRITEBEHIND_CACHE__{name}_S": "10" for name in ("TIMEOUT", "CONNECT_TIMEOUT", "BUDGET")}
DIRECT, ALL = ("cache-aside", "write-through"), ("cache-aside", "write-through", "write-behind")


def compare(folder: Path, *arguments: str, **env: str) -> tuple[dict[str, Any], str, str]:
    """What was printed, the page, and standard error."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WRITEBEHIND_")} | PATIENT
    line = [sys.executable, "-m", "writebehind.flusher", "compare", "--output", str(folder / "out"), *arguments]
    done = subprocess.run(line, env={**kept, **env}, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "out.json").read_text())
    if "--json" in arguments:
        assert json.loads(done.stdout) == found
    else:
        assert all(name in done.stdout for name in ALL)
    return found, (folder / "out.html").read_text(), done.stderr


def check_undisturbed(found: dict[str, Any]) -> None:
    """What holds on any machine, however slow."""
    assert tuple(found["strategies"]) == ALL
    for name, one in found["strategies"].items():
        load = one["load"]
        assert load["read"]["count"] > load["write"]["count"] > 0
        assert 0 < load["write"]["p50_ms"] <= load["write"]["p99_ms"] <= load["write"]["max_ms"]
        assert (load["old_reads"], load["errors"]) == (0, {}), name
        assert one["seen"]["second_client"]["max_ms"] == 0
    for name in DIRECT:
        assert found["strategies"][name]["seen"]["table"]["max_ms"] == 0
        assert 0.9 < found["strategies"][name]["statements_per_write"] < 1.1
    behind = found["strategies"]["write-behind"]
    assert behind["seen"]["table"]["p50_ms"] > 0
    assert behind["statements_per_write"] < 0.5


def test_servers_of_others_are_compared_and_not_killed(
    writebehind_stack: Stack | ExistingServers, tmp_path: Path
) -> None:
    found, page, said = compare(tmp_path, "--seconds", "1", **writebehind_stack.env())
    check_undisturbed(found)
    assert "not embedded" in found["skipped"]
    assert {one["cache_killed"] for one in found["strategies"].values()} == {None}
    assert "Nothing was killed" in page
    assert "write-behind: load for 1 s" in said
    with psycopg.connect(writebehind_stack.env()["WRITEBEHIND_DATABASE__URL"]) as connection:
        left = connection.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'wb_compare_%'").fetchone()
    assert left == (0,)


def test_its_own_servers_are_killed_and_each_strategy_answers_in_its_way(tmp_path: Path) -> None:
    found, page, _ = compare(tmp_path, "--seconds", "1", "--outage", "3", "--workers", "4", "--json")
    check_undisturbed(found)
    assert found["skipped"] is None
    for name in ALL:
        cache, database = (found["strategies"][name][f"{server}_killed"] for server in ("cache", "database"))
        assert cache["write"]["count"] > 0, f"{name}: a cache outage blocks no write"
        assert all(error.startswith("read ") for error in cache["errors"]), cache["errors"]
        assert (database["write"]["count"] > 0) == (name == "write-behind"), name
        assert cache["back_s"] is not None
        assert database["back_s"] is not None
        assert sum(bucket["read"] for bucket in cache["timeline"]) > 0
    for name in DIRECT:
        assert found["strategies"][name]["cache_killed"]["old_reads"] == 0
    assert page.count("<svg") == 8
    assert "http" not in page  # it needs nothing else
    assert found["machine"]["postgres"]["server_version"] in page
    assert str(found["parameters"]["keys"]) in page

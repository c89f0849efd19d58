"""What compose.yaml starts, started on the embedded servers: the same server settings, commands and entrypoints."""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import httpx
import psycopg
import pytest
from confluent_kafka import Producer

from tests.deploy.queries import selectors
from tests.deploy.test_compose import COMPOSE, SERVICES, environment
from tests.deploy.test_dashboards import DASHBOARDS, read, targets
from tests.deploy.vocabulary import ROOT, SETTINGS
from tests.integration.flusher_process import TIMEOUT_S, wait_until
from tests.integration.telemetry_bounds import LABEL, SAMPLE
from tests.integration.telemetry_collector import collector
from writebehind.embedded import Stack
from writebehind.shared import naming
from writebehind.shared.telemetry import Series
from writebehind.shared.telemetry_producer import PRODUCER

PROGRAMS = Path(sys.executable).parent  # of this environment, as /opt/venv/bin is of an image's

# Addresses and folders are the embedded stack's own.
PLACES = ("LISTENER", "QUORUM", "LOG_DIRS", "CLUSTER_ID", "NODE_ID", "PROCESS_ROLES")


@pytest.fixture(scope="module")
def servers() -> Iterator[Stack]:
    """The embedded servers with the settings that compose.yaml gives its own."""
    kafka = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in SERVICES["kafka"]["environment"].items()
        if not any(place in name for place in PLACES)
    }
    postgres = dict(option.split("=") for option in SERVICES["postgres"]["command"][2::2])
    words = SERVICES["valkey"]["command"][2].split()
    valkey = {name.removeprefix("--"): value for name, value in pairwise(words) if name.startswith("--")}
    del valkey["requirepass"], valkey["dir"]
    assert all((kafka, postgres, valkey))
    with Stack(fsync=False, kafka_options=kafka, postgres_options=postgres, valkey_options=valkey) as stack:
        yield stack


@contextmanager
def service(name: str, command: list[str], env: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        # uvicorn ends in order, and then by the signal itself.
        assert process.wait(TIMEOUT_S) in (0, -signal.SIGTERM if name == "example" else 0), (
            folder / f"{name}.log"
        ).read_text()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def entrypoint(image: str, port: int) -> list[str]:
    """What the image starts, with this interpreter and on another port."""
    lines = (COMPOSE / "images" / image).read_text().splitlines()
    (line,) = [line.removeprefix("ENTRYPOINT ") for line in lines if line.startswith("ENTRYPOINT ")]
    words: list[str] = json.loads(line)
    changed = {"8000": str(port), words[words.index("--host") + 1]: "127.0.0.1"}
    return [str(PROGRAMS / words[0]), *(changed.get(word, word) for word in words[1:])]


def test_migrate_flusher_audit_and_example_work_together(servers: Stack, tmp_path: Path) -> None:
    for mount in SERVICES["flusher"]["volumes"]:
        target = tmp_path / mount["target"].removeprefix("/app/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((COMPOSE / mount["source"]).read_bytes())
    (tmp_path / "players" / "fastapi_app.py").write_bytes((ROOT / "tests/examples/fastapi_app.py").read_bytes())
    common = {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "PYTHONPATH": str(tmp_path)}
    health_port, audit_port = free_port(), free_port()
    here = {
        "WRITEBEHIND_FLUSHER__HEALTH_ADDRESS": f"127.0.0.1:{health_port}",
        "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
        "OTEL_EXPORTER_PROMETHEUS_PORT": str(audit_port),
    }
    observed = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "otlp", "OTEL_METRIC_EXPORT_INTERVAL": "500"}

    def env(name: str) -> dict[str, str]:
        there = environment(name)
        return {**common, **there, **servers.env(), **{name: value for name, value in here.items() if name in there}}

    writebehind = str(PROGRAMS / "writebehind")
    port = free_port()
    health = [word.replace("8000", str(port)) for word in SERVICES["example"]["healthcheck"]["test"][2:]]

    with psycopg.connect(servers.database_url, autocommit=True) as database, ExitStack() as running:
        collects_at, received = running.enter_context(collector())
        here["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{collects_at}"
        database.execute((COMPOSE / "players.sql").read_bytes())
        with service("migrate", [writebehind, *SERVICES["migrate"]["command"]], env("migrate"), tmp_path) as migrate:
            migrate.wait(TIMEOUT_S)
        command = [writebehind, *SERVICES["flusher"]["command"]]
        running.enter_context(service("flusher", command, env("flusher"), tmp_path))
        seen = {**env("example"), **observed}
        running.enter_context(service("example", entrypoint("example.Dockerfile", port), seen, tmp_path))
        wait_until(
            lambda: subprocess.run([sys.executable, *health], capture_output=True, check=False).returncode == 0,
            "the example to be healthy",
        )
        http = running.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}"))
        for points in (3, 9, 4):
            assert http.post("/players/7/rounds", params={"points": points}).status_code == 200
        assert http.get("/players/7").json() == {"id": 7, "name": None, "points": 16, "best": 9}
        wait_until(
            lambda: database.execute("SELECT points, best FROM players WHERE id = 7").fetchone() == (16, 9),
            "the row to be flushed",
        )
        database.execute("INSERT INTO players (id, points) VALUES (8, 1)")
        assert http.get("/players/8").status_code == 200  # it is cached now
        command = [writebehind, *SERVICES["audit"]["command"]]  # now, because its next run is minutes away
        running.enter_context(service("audit", command, env("audit"), tmp_path))
        producer = Producer({"bootstrap.servers": servers.bootstrap_servers})
        topic = naming.topic(str(SETTINGS["WRITEBEHIND_KAFKA__TOPIC_PREFIX"].default), "player")
        producer.produce(topic, b"no record")
        producer.flush(TIMEOUT_S)
        for prefix, of in (("writebehind_flusher", health_port), ("writebehind_audit", audit_port)):
            wait_until(functools.partial(all_read, of, prefix), f"all that dashboards read of {prefix}")
        for path, needed in (
            ("/v1/traces", ["POST /players/{player_id}/rounds", f"send {topic}"]),
            ("/v1/metrics", sorted(series.name for series in read_of_producers())),
        ):
            wait_until(functools.partial(holds, received, path, needed), f"{path} to get {needed}")


def holds(received: dict[str, list[bytes]], path: str, needed: list[str]) -> bool:
    return all(any(text.encode() in body for body in received.get(path, [])) for text in needed)


def read_of_producers() -> list[Series]:
    """The series of the producer library that dashboards read."""
    asked = [read(one) for path in DASHBOARDS for query, _ in targets(path) for one in selectors(query)]
    return [series for series in asked if series in PRODUCER and not any(rare in series.name for rare in RARE)]


def all_read(port: int, prefix: str) -> bool:
    try:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    except httpx.TransportError:
        return False  # it does not serve yet
    missing = unread(text, prefix)
    print(missing)  # for who reads why this failed
    return not missing


#: What only an outage or a repair brings about.
RARE = {"late_failures", "settle_failures", "fences", "retries", "stopped", "repairs"}


def unread(text: str, prefix: str) -> list[str]:
    """Selectors of the dashboards, for series that begin so, that find nothing in what was exported."""
    found = [sample for line in text.splitlines() if (sample := SAMPLE.match(line))]
    there = [(sample[0].partition("{")[0].partition(" ")[0], dict(LABEL.findall(sample[2] or ""))) for sample in found]
    asked = [one for path in DASHBOARDS for query, _ in targets(path) for one in selectors(query)]
    return [
        one.name
        for one in asked
        if one.name.startswith(prefix)
        and not any(rare in one.name for rare in RARE)
        and not any(one.name == name and one.labels.keys() <= labels.keys() for name, labels in there)
    ]

"""compose/compose.yaml without an engine: its schema, and whether all that it names exists."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.vocabulary import OTEL, ROOT, check_command, check_environment, check_settings, documents

COMPOSE = ROOT / "compose"
(FILE,) = documents(COMPOSE / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
OURS = [name for name, service in SERVICES.items() if "flusher.Dockerfile" in str(service.get("build", ""))]


def dotenv(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def interpolated(text: str, values: Mapping[str, str]) -> str:
    """As compose does it for the forms that the file uses."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    return re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: values[found[1]], text).replace("$$", "$")


def environment(name: str) -> dict[str, str]:
    return {
        key: interpolated(value, dotenv(COMPOSE / "demo.env")) for key, value in SERVICES[name]["environment"].items()
    }


def test_it_is_what_the_compose_specification_asks_for() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, str(COMPOSE / "compose.yaml")], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "version" not in FILE


def test_every_service_is_complete() -> None:
    for name, service in SERVICES.items():
        image = service["image"]
        assert "build" in service or re.fullmatch(r"[a-z./-]+:[\w.-]+@sha256:[0-9a-f]{64}", image), (
            f"{name} is not pinned"
        )
        check_environment(service.get("environment", {}))
        once = service.get("restart", "").startswith("on-failure")
        assert once or service["restart"] == "unless-stopped", name
        for needed, how in service.get("depends_on", {}).items():
            healthy = how["condition"] == "service_healthy"
            assert healthy == ("healthcheck" in SERVICES[needed]), f"{name} waits for {needed} in the wrong way"
        for volume in service.get("volumes", []):
            if isinstance(volume, str):
                assert volume.split(":")[0] in FILE["volumes"], f"{name}: {volume}"
            else:
                assert (COMPOSE / volume["source"]).exists(), f"{name}: {volume['source']}"
                assert volume["read_only"], f"{name}: {volume['source']}"
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is open to the network: {port}"
    assert set(FILE["volumes"]) == {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if isinstance(volume, str)
    }


def test_nothing_has_a_default_password() -> None:
    text = (COMPOSE / "compose.yaml").read_text()
    asked = [(name, rest) for name, rest in re.findall(r"\$\{(\w+)([^}]*)\}", text) if name not in OTEL]
    assert asked
    for name, rest in asked:
        assert rest.startswith(":?"), f"{name} may be left out or empty"
    for file in ("demo.env", ".env.example"):
        assert set(dotenv(COMPOSE / file)) == {name for name, _ in asked}
    assert set(dotenv(COMPOSE / ".env.example").values()) == {""}
    literal = [line for line in text.splitlines() if re.search("PASSWORD|AUTH", line) and "$" not in line]
    assert not literal


@pytest.mark.parametrize("name", OURS)
def test_our_services_run_commands_that_exist_with_settings_that_load(name: str) -> None:
    service = SERVICES[name]
    check_command(service["command"])
    check_environment(service["environment"])
    check_settings(environment(name))
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]


def test_the_flusher_has_longer_to_stop_than_it_takes() -> None:
    assert int(SERVICES["flusher"]["stop_grace_period"].removesuffix("s")) > 8


@pytest.mark.parametrize("dockerfile", sorted((COMPOSE / "images").glob("*.Dockerfile")), ids=lambda path: path.name)
def test_an_image_is_built_from_what_is_there_and_sent_along(dockerfile: Path) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("hadolint")), str(dockerfile)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = dockerfile.read_text()
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
            assert any(source == one or source.startswith(f"{one}/") for one in sent), (
                f".dockerignore keeps {source} back"
            )
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert all("@sha256:" in base for base in re.findall(r"^FROM (\S+)", text, re.MULTILINE))
    assert re.search(r"^USER 65532:65532$", text, re.MULTILINE)
    assert all("--require-hashes" in line for line in text.splitlines() if "--requirement" in line)
    built = {(ROOT / service["build"]["dockerfile"]) for service in SERVICES.values() if "build" in service}
    assert dockerfile in built

"""The Secrets that k8s/README.md makes: its commands are run, by a kubectl that only notes what it is told."""

from __future__ import annotations

import functools
import re
import subprocess
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.deploy.manifests import K8S, Document, named

PRODUCTION: Final = "writebehind"
FILES: Final = ("ca.pem", "migrator.password", "flusher.password", "auditor.password", "scaler.password")
# Each argument ends with a NUL, each call with a line of its own.
_KUBECTL = """kubectl() { printf '%s\\0' "$@" $'\\n'; }"""
_BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_OPTION = re.compile(r"--from-(literal|file)=([^=]+)(?:=(.*))?", re.DOTALL)

Secrets = Mapping[str, Mapping[str, str]]


def secrets(layer: list[Document]) -> Secrets:
    """By name, what each Secret of a layer's namespace has by key; of the base, which has none, those of production."""
    return made()[next(iter(named(layer, "Namespace")), PRODUCTION)]


def mounted(folder: Path, files: Mapping[str, str]) -> Path:
    """Files as the kubelet mounts them: links to a folder whose name changes with its content."""
    (folder / "..2026_11_25").mkdir(parents=True)
    (folder / "..data").symlink_to("..2026_11_25")
    for name, text in files.items():
        (folder / "..2026_11_25" / name).write_text(text)
        (folder / name).symlink_to(f"..data/{name}")
    return folder


@functools.cache
def made() -> Mapping[str, Secrets]:
    """The Secrets of each namespace that the README names."""
    blocks = [textwrap.dedent(block) for block in _BLOCK.findall((K8S / "README.md").read_text())]
    with tempfile.TemporaryDirectory() as folder:
        for name in FILES:
            (Path(folder) / name).write_text(f"content of {name}" if name == "ca.pem" else name.partition(".")[0])
        script = "\n".join(["set -eu", _KUBECTL, *blocks])
        said = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=True).stdout
        found: dict[str, dict[str, Mapping[str, str]]] = {}
        for call in said.split("\0\n\0")[:-1]:
            option, namespace, *words, name = [part for part in call.split("\0") if not part.startswith("--from-")]
            assert [option, *words] == ["--namespace", "create", "secret", "generic"]
            data = dict(_entry(part, Path(folder)) for part in call.split("\0") if part.startswith("--from-"))
            assert found.setdefault(namespace, {}).setdefault(name, data) is data, f"{name} is made twice"
    return found


def _entry(option: str, folder: Path) -> tuple[str, str]:
    given = _OPTION.fullmatch(option)
    assert given is not None, option
    kind, first, rest = given.groups()
    return (first, rest) if kind == "literal" else (first, (folder / (rest or first)).read_text())

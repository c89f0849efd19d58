"""Kubernetes' own schemas, held against manifests by two programs. Nothing is fetched: the schemas are in a package."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # has no stubs
import yaml

from tests.deploy.manifests import Document, tool

Judge = Callable[[list[Document], Path], None]  # of documents, with a folder to work in; fails unless it accepts them
VERSION = "1.37"


def accepted_by(version: str) -> Judge:
    """Strictly, by the schemas of a version."""

    def judge(documents: list[Document], _: Path) -> None:
        for document in documents:
            kubernetes_validate.validate(document, version, strict=True)

    return judge


def kubeconform(documents: list[Document], folder: Path) -> None:
    """By kubeconform, where it was built."""
    (folder / "all.yaml").write_text(yaml.safe_dump_all(documents))
    schemas = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / f"v{VERSION}.0-local-strict"
    kinds = {document["kind"].lower() for document in documents}
    for schema in schemas.glob("*.json"):
        if schema.name.partition("-")[0] in {"_definitions.json", *kinds}:
            (folder / schema.name).write_text(json.dumps(_local(schema.read_text())))
    location = f"{folder}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    command = [str(tool("kubeconform")), "-strict", "-summary", "-schema-location", location, str(folder / "all.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Valid: {len(documents)}," in done.stdout


def _local(schema: str) -> dict[str, Any]:
    """The schemas name one another by addresses; these are the files."""
    local: dict[str, Any] = json.loads(schema.replace('"/api/_definitions', '"_definitions'))
    local.pop("$id", None)
    return local

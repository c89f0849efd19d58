"""The manifests of k8s/: as they are written, and as kustomize puts them together where it is there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from tests.deploy.vocabulary import ROOT, documents

Document = dict[str, Any]

K8S: Final = ROOT / "k8s"
OVERLAYS: Final = sorted(path.parent for path in K8S.glob("overlays/*/kustomization.yaml"))
_PARTS = sorted(path.parent for path in (*K8S.glob("base/kustomization.yaml"), *K8S.glob("components/*/*zation.yaml")))
_TOOLS = ROOT / ".cache" / "go"  # where `make k8s-tools` puts them


def tool(name: str) -> str | None:
    """The path of a tool that was built or is installed."""
    built = _TOOLS / name
    return str(built) if built.exists() else shutil.which(name)


def kustomization(folder: Path) -> Document:
    (found,) = documents(folder / "kustomization.yaml")
    return dict(found)


def written() -> list[Document]:
    """Base and components without kustomize: what they list, what they generate, their labels, and init containers."""
    found = [document for folder in _PARTS for document in _part(folder)]
    for folder in _PARTS:
        for path in [patch["path"] for patch in kustomization(folder).get("patches", []) if "path" in patch]:
            for patch in documents(folder / path):
                for _, template in pod_templates([named(found, patch["kind"])[patch["metadata"]["name"]]]):
                    template["spec"]["initContainers"] = patch["spec"]["template"]["spec"]["initContainers"]
    return found


def _part(folder: Path) -> Iterator[Document]:
    own = kustomization(folder)
    listed = [document for name in own.get("resources", []) for document in documents(folder / name)]
    for generator in own.get("configMapGenerator", []):
        data = dict(literal.split("=", 1) for literal in generator.get("literals", []))
        data |= {name: (folder / name).read_text() for name in generator.get("files", [])}
        metadata = {"name": generator["name"]}
        listed.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    for document in listed:
        (label,) = own["labels"]
        templates = [template for _, template in pod_templates([document]) if label.get("includeTemplates")]
        for labelled in (document, *templates):
            labelled["metadata"].setdefault("labels", {}).update(label["pairs"])
        yield document


def _rendered(kustomize: str, folder: Path) -> list[Document]:
    done = subprocess.run([kustomize, "build", str(folder)], capture_output=True, text=True, check=True, timeout=120)
    return list(yaml.safe_load_all(done.stdout))


def _layers() -> dict[str, list[Document]]:
    layers = {"as written": written()}
    if (kustomize := tool("kustomize")) is not None:
        layers |= {str(folder.relative_to(K8S)): _rendered(kustomize, folder) for folder in [K8S / "base", *OVERLAYS]}
    return layers


def pod_templates(layer: list[Document]) -> Iterator[tuple[Document, Document]]:
    """Each workload with the template of its pods."""
    for document in layer:
        spec = document.get("spec", {})
        spec = spec.get("jobTemplate", document).get("spec", {})
        if "template" in spec:
            yield document, spec["template"]


def named(layer: list[Document], kind: str) -> dict[str, Document]:
    """The documents of a kind by name."""
    return {document["metadata"]["name"]: document for document in layer if document["kind"] == kind}


LAYERS: Final = _layers()

"""k8s/ without a cluster: Kubernetes' schemas and standards, and whether all that the manifests name exists."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.deploy.k8s_secrets import mounted, secrets
from tests.deploy.manifests import K8S, LAYERS, OVERLAYS, Document, kustomization, named, pod_templates, tool, written
from tests.deploy.schemas import Judge, accepted_by, kubeconform
from tests.deploy.vocabulary import SETTINGS, check_command, check_environment, documents
from writebehind.flusher.health_server import HealthServer
from writebehind.shared.settings import FlusherSettings

CUSTOM = ("keda.sh", "monitoring.coreos.com")  # groups of resources without a schema here
LABELS = {f"app.kubernetes.io/{name}" for name in ("name", "instance", "version", "component", "part-of", "managed-by")}
SHUTDOWN_TIMEOUT_S: float = FlusherSettings.model_fields["shutdown_timeout_s"].default
# The oldest version that has all we use as stable, the newest known here, and a second opinion where it was built.
JUDGES: dict[str, Judge] = {
    "1.31": accepted_by("1.31"),
    "1.37": accepted_by("1.37"),
    **({"kubeconform": kubeconform} if tool("kubeconform") else {}),
}
CONTAINERS = [
    pytest.param(layer, template["spec"], container, id=f"{name}: {document['kind']} {container['name']}")
    for name, layer in LAYERS.items()
    for document, template in pod_templates(layer)
    for container in (*template["spec"].get("initContainers", []), *template["spec"]["containers"])
]
layers = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
containers = pytest.mark.parametrize(("layer", "pod", "container"), CONTAINERS)


def environment(layer: list[Document], container: Document) -> dict[str, str]:
    """What the container finds: the settings, then its own variables."""
    found: dict[str, str] = {}
    for source in container["envFrom"]:
        found |= named(layer, "ConfigMap")[source["configMapRef"]["name"]]["data"]
    return found | {variable["name"]: variable.get("value", "pod-0") for variable in container["env"]}


@layers
@pytest.mark.parametrize("judge", JUDGES.values(), ids=JUDGES)
def test_the_schemas_of_kubernetes_accept_every_manifest(layer: list[Document], judge: Judge, tmp_path: Path) -> None:
    core = [document for document in layer if document["apiVersion"].split("/")[0] not in CUSTOM]
    assert core
    judge(core, tmp_path)


@layers
def test_every_manifest_has_the_recommended_labels(layer: list[Document]) -> None:
    for document in layer:
        if document["kind"] == "Namespace":
            continue
        place = f"{document['kind']} {document['metadata']['name']}"
        # What all parts share belongs to none of them.
        shared = "app.kubernetes.io/component" not in str(document.get("spec"))
        wanted = LABELS - ({"app.kubernetes.io/component"} if shared else set())
        assert wanted <= document["metadata"]["labels"].keys(), place
        assert document["metadata"]["labels"]["app.kubernetes.io/version"] == _version(), place


@containers
def test_a_container_runs_a_command_that_exists_with_settings_that_are_complete(
    layer: list[Document], pod: Document, container: Document, tmp_path: Path
) -> None:
    check_command(container["args"])
    variables = environment(layer, container)
    check_environment(variables)
    app = tmp_path / "app"
    for mount in container["volumeMounts"]:
        (volume,) = [volume for volume in pod["volumes"] if volume["name"] == mount["name"]]
        if "configMap" in volume:
            data = named(layer, "ConfigMap")[volume["configMap"]["name"]]["data"]
            mounted(app / Path(mount["mountPath"]).relative_to("/app"), data)
        elif "secret" in volume:
            assert variables["WRITEBEHIND_SECRETS_DIR"] == mount["mountPath"]
            secret = secrets(layer)[volume["secret"]["secretName"]]
            variables["WRITEBEHIND_SECRETS_DIR"] = str(mounted(tmp_path / "secrets", secret))
    # Any command that loads settings and entities will do; this one needs no server.
    done = subprocess.run(
        [sys.executable, "-m", "writebehind.flusher", "migrate", "--print"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(app), **variables},
        cwd=app,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert 'ALTER TABLE "players"' in done.stdout


@containers
def test_a_container_is_as_the_restricted_standard_asks(
    layer: list[Document], pod: Document, container: Document
) -> None:
    # https://kubernetes.io/docs/concepts/security/pod-security-standards/
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    own = container["securityContext"]
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert not own["allowPrivilegeEscalation"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert all(volume.keys() & {"configMap", "secret", "emptyDir"} for volume in pod["volumes"])
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert "host" not in container.get(probe, {}).get("httpGet", {})
    # And beyond it.
    assert own["readOnlyRootFilesystem"]
    assert pod["automountServiceAccountToken"] is False
    assert not named(layer, "ServiceAccount")[pod["serviceAccountName"]]["automountServiceAccountToken"]
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


@containers
def test_no_secret_is_in_the_environment(layer: list[Document], pod: Document, container: Document) -> None:
    known = {name for name, setting in SETTINGS.items() if setting.secret}
    assert not known & environment(layer, container).keys()


@layers
def test_a_flusher_has_longer_to_stop_than_it_takes_and_its_pods_name(layer: list[Document]) -> None:
    (flusher,) = named(layer, "StatefulSet").values()
    pod = flusher["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    settings = environment(layer, container)
    longest_s = float(settings.get("WRITEBEHIND_FLUSHER__SHUTDOWN_TIMEOUT_S", SHUTDOWN_TIMEOUT_S))
    assert pod["terminationGracePeriodSeconds"] > longest_s + 5
    (name,) = [v for v in container["env"] if v["name"] == "WRITEBEHIND_FLUSHER__INSTANCE_ID"]
    assert name["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"


def test_the_check_can_keep_a_flusher_from_starting() -> None:
    (flusher,) = named(LAYERS["as written"], "StatefulSet").values()
    pod = flusher["spec"]["template"]["spec"]
    ((check,), (container,)) = pod["initContainers"], pod["containers"]
    assert (check["args"], check["image"], check["envFrom"]) == (["check"], container["image"], container["envFrom"])
    assert check["volumeMounts"] == container["volumeMounts"]


@layers
def test_an_audit_runs_alone_and_not_in_the_past(layer: list[Document]) -> None:
    ((name, audit),) = named(layer, "CronJob").items()
    assert len(name) <= 52, "a job's name is made from it"
    spec = audit["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert {
        "startingDeadlineSeconds",
        "timeZone",
        "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
    } <= spec.keys()
    (rule,) = spec["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailJob", [1])


@layers
def test_probes_ask_what_a_flusher_answers_where_it_answers(layer: list[Document]) -> None:
    (flusher,) = named(layer, "StatefulSet").values()
    (container,) = flusher["spec"]["template"]["spec"]["containers"]
    health: Any = SimpleNamespace(live=None, ready=None, started=None)
    served = HealthServer("", 0, health, bytes)._routes
    asked = {probe: container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")}
    assert {probe: get["path"] for probe, get in asked.items()} == {
        "startup": "/startupz",
        "liveness": "/livez",
        "readiness": "/readyz",
    }
    assert {get["path"] for get in asked.values()} < served.keys()
    host, _, port = environment(layer, container)["WRITEBEHIND_FLUSHER__HEALTH_ADDRESS"].rpartition(":")
    assert host == "0.0.0.0", "the node asks at the pod's address"  # noqa: S104  # a pod's, behind a NetworkPolicy
    (listening,) = container["ports"]
    assert listening["containerPort"] == int(port)
    (service,) = named(layer, "Service").values()
    assert {get["port"] for get in asked.values()} == {listening["name"]} == {service["spec"]["ports"][0]["targetPort"]}


@layers
def test_selectors_find_the_flushers_pods_and_nothing_is_let_in_elsewhere(layer: list[Document]) -> None:
    (flusher,) = named(layer, "StatefulSet").values()
    labels = flusher["spec"]["template"]["metadata"]["labels"]
    budgets, services = named(layer, "PodDisruptionBudget").values(), named(layer, "Service").values()
    selectors = [flusher["spec"]["selector"]["matchLabels"]]
    selectors += [budget["spec"]["selector"]["matchLabels"] for budget in budgets]
    selectors += [service["spec"]["selector"] for service in services]
    assert all(selector.items() <= labels.items() for selector in selectors)
    assert all(budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" for budget in budgets)
    assert flusher["spec"]["serviceName"] in named(layer, "Service")
    policies = named(layer, "NetworkPolicy")
    denied = policies["writebehind-default-deny"]["spec"]
    assert denied["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & denied.keys()
    for _, template in pod_templates(layer):
        assert denied["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


@layers
def test_the_way_out_leads_to_the_ports_of_the_servers(layer: list[Document]) -> None:
    egress = named(layer, "NetworkPolicy")["writebehind-servers"]["spec"]["egress"]
    ports = {port["port"] for rule in egress for port in rule["ports"]}
    (flusher,) = named(layer, "StatefulSet").values()
    (container,) = flusher["spec"]["template"]["spec"]["containers"]
    brokers = environment(layer, container)["WRITEBEHIND_KAFKA__BOOTSTRAP_SERVERS"]
    assert {int(broker.rpartition(":")[2]) for broker in brokers.split(",")} | {53, 5432, 6379} == ports


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_an_overlay_changes_what_is_there(overlay: Path) -> None:
    own = kustomization(overlay)
    there = {(document["kind"], document["metadata"]["name"]): document for document in written()}
    for patch in own["patches"]:
        for document in documents(overlay / patch["path"]):
            place = document["kind"], document["metadata"]["name"]
            assert place in there, place
            for _, template in pod_templates([document]):
                known = {
                    container["name"] for _, t in pod_templates([there[place]]) for container in t["spec"]["containers"]
                }
                assert {container["name"] for container in template["spec"]["containers"]} <= known
                for container in template["spec"]["containers"]:
                    check_command(container.get("args", ["flush"]))
                    check_environment({variable["name"]: "" for variable in container.get("env", [])})
    for generator in own.get("configMapGenerator", []):
        assert ("ConfigMap", generator["name"]) in there
        check_environment(dict(literal.split("=", 1) for literal in generator["literals"]))
    (namespace,) = documents(overlay / "namespace.yaml")
    assert namespace["metadata"]["name"] == own["namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def _version() -> str:
    return str(tomllib.loads((K8S.parent / "flusher/pyproject.toml").read_text())["project"]["version"])

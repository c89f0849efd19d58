"""The custom resources of k8s/, for which no schema is at hand: what KEDA and the Prometheus operator need to find."""

from __future__ import annotations

import pytest

from tests.deploy.manifests import K8S, LAYERS, Document, named
from tests.deploy.vocabulary import SETTINGS
from writebehind.shared import naming
from writebehind.shared.registry import load

WITH = {name: layer for name, layer in LAYERS.items() if named(layer, "ScaledObject")}
layers = pytest.mark.parametrize("layer", WITH.values(), ids=WITH)

# https://keda.sh/docs/latest/scalers/apache-kafka/; all values are text.
TRIGGER = {
    "bootstrapServersFromEnv",
    "consumerGroup",
    "topic",
    "lagThreshold",
    "offsetResetPolicy",
    "excludePersistentLag",
}


@layers
def test_flushers_are_scaled_by_the_lag_of_their_own_topics_and_group(
    layer: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    (scaled,) = named(layer, "ScaledObject").values()
    assert scaled["apiVersion"] == "keda.sh/v1alpha1"
    spec, (flusher,) = scaled["spec"], named(layer, "StatefulSet").values()
    target = spec["scaleTargetRef"]
    assert (target["apiVersion"], target["kind"], target["name"]) == (
        flusher["apiVersion"],
        flusher["kind"],
        flusher["metadata"]["name"],
    )
    assert 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"] <= int(default("KAFKA__PARTITIONS"))
    for trigger in spec["triggers"]:
        assert trigger["type"] == "kafka"
        assert trigger["metadata"].keys() == TRIGGER
        assert all(isinstance(value, str) for value in trigger["metadata"].values())
        assert trigger["metadata"]["bootstrapServersFromEnv"] in SETTINGS
        assert trigger["metadata"]["consumerGroup"] == default("FLUSHER__GROUP")
    monkeypatch.chdir(K8S / "base")
    topics = {naming.topic(default("KAFKA__TOPIC_PREFIX"), entity.name) for entity in load(["entities"]).write_behind}
    assert {trigger["metadata"]["topic"] for trigger in spec["triggers"]} == topics


@layers
def test_a_scaled_set_leaves_its_number_to_the_scaler(layer: list[Document]) -> None:
    (flusher,) = named(layer, "StatefulSet").values()
    # As written the base still has it: the component takes it away.
    assert "replicas" not in flusher["spec"] or layer is LAYERS["as written"]


@layers
def test_what_is_scraped_is_a_port_of_the_flushers_service_that_is_let_in(layer: list[Document]) -> None:
    (monitor,) = named(layer, "ServiceMonitor").values()
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    (service,) = named(layer, "Service").values()
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    ports = {port["name"] for port in service["spec"]["ports"]}
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in ports
    assert endpoint["path"] == "/metrics"
    (rule,) = named(layer, "NetworkPolicy")["writebehind-metrics"]["spec"]["ingress"]
    assert {port["port"] for port in rule["ports"]} == {endpoint["port"]}


def default(setting: str) -> str:
    return str(SETTINGS[f"WRITEBEHIND_{setting}"].default)

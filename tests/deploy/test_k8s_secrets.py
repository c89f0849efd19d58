"""Who has which credentials in k8s/, and how they go over the network in production."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.k8s_secrets import PRODUCTION, Secrets, made, mounted, secrets
from tests.deploy.manifests import K8S, LAYERS, Document, kustomization, named, pod_templates
from tests.deploy.vocabulary import SETTINGS, check_settings
from writebehind.flusher.grants.roles import Role, default_name

layers = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
PARTS = [f"writebehind-{role}" for role in Role if role is not Role.PRODUCER]


def mounts(layer: list[Document]) -> dict[str, str]:
    """By workload, the Secret that its pods mount."""
    return {
        document["metadata"]["name"]: volume["secret"]["secretName"]
        for document, template in pod_templates(layer)
        for volume in template["spec"]["volumes"]
        if "secret" in volume
    }


@layers
def test_no_two_parts_share_a_secret_and_each_is_made(layer: list[Document]) -> None:
    mounted_by = mounts(layer)
    assert mounted_by == {
        "writebehind-migrate": "writebehind-migrator",
        "writebehind-flusher": "writebehind-flusher",
        "writebehind-audit": "writebehind-auditor",
    }
    assert set(mounted_by.values()) <= secrets(layer).keys()


@pytest.mark.parametrize("namespace", made())
def test_a_parts_secret_has_settings_that_are_secret(namespace: str) -> None:
    for name in PARTS:
        keys = made()[namespace][name].keys() - {"ca.pem"}
        assert {SETTINGS[key].secret for key in keys} == {True}


def test_in_production_each_part_has_a_role_and_a_password_of_its_own() -> None:
    found = made()[PRODUCTION]
    for role in Role:
        if role is not Role.PRODUCER:
            own = found[f"writebehind-{role}"]
            assert own["WRITEBEHIND_DATABASE__URL"].startswith(f"postgresql://{default_name(role)}:{role}@")
            assert own["WRITEBEHIND_CACHE__URL"].startswith(f"rediss://{default_name(role)}:{role}@")
            assert f'"{default_name(role)}"' in own["WRITEBEHIND_KAFKA__OPTIONS"]
    values = [value for name in PARTS for key, value in found[name].items() if key != "ca.pem"]
    assert len(set(values)) == len(values)


def in_production(of: Secrets, part: str, folder: Path) -> None:
    """Fail unless the settings of the production overlay load with a Secret."""
    settings: dict[str, str] = {}
    for place in (K8S / "base", K8S / "overlays" / "production"):
        literals = [g.get("literals", []) for g in kustomization(place)["configMapGenerator"]]
        settings |= dict(literal.split("=", 1) for given in literals for literal in given)
    assert settings["WRITEBEHIND_PROFILE"] == "production"
    check_settings({**settings, "WRITEBEHIND_SECRETS_DIR": str(mounted(folder, of[part]))})


@pytest.mark.parametrize("part", PARTS)
def test_the_production_overlay_loads_under_the_production_profile(part: str, tmp_path: Path) -> None:
    in_production(made()[PRODUCTION], part, tmp_path)


def test_it_would_not_without_encryption(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="PROFILE=production refuses"):
        in_production(made()["writebehind-dev"], PARTS[0], tmp_path)


@pytest.mark.parametrize("name", [name for name, layer in LAYERS.items() if named(layer, "ScaledObject")])
def test_the_scaler_comes_to_the_brokers_with_a_secret_of_its_own(name: str) -> None:
    layer = LAYERS[name]
    (scaled,) = named(layer, "ScaledObject").values()
    ((place, authentication),) = named(layer, "TriggerAuthentication").items()
    assert {trigger["authenticationRef"]["name"] for trigger in scaled["spec"]["triggers"]} == {place}
    assert authentication["apiVersion"] == scaled["apiVersion"]
    references = authentication["spec"]["secretTargetRef"]
    (secret,) = {reference["name"] for reference in references}
    assert secret not in mounts(layer).values()
    assert {reference["key"] for reference in references} == secrets(layer)[secret].keys()
    # https://keda.sh/docs/latest/scalers/apache-kafka/
    assert {reference["parameter"] for reference in references} == {"sasl", "tls", "username", "password", "ca"}
    assert (secrets(layer)[secret]["sasl"], secrets(layer)[secret]["tls"]) == ("scram_sha512", "enable")

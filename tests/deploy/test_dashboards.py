"""The dashboards of compose/: that Grafana finds them, and that each query reads series and labels that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.queries import Selector, grouped_by, selectors
from tests.deploy.test_compose import COMPOSE, SERVICES
from tests.deploy.vocabulary import documents
from tests.integration.telemetry_bounds import exported, flat
from writebehind.shared import telemetry
from writebehind.shared.telemetry import Series
from writebehind.shared.telemetry_producer import PRODUCER

OBSERVABILITY = COMPOSE / "observability"
DASHBOARDS = sorted((OBSERVABILITY / "grafana" / "dashboards").glob("*.json"))
ALL: dict[str, Series] = {exported(series): series for series in (*PRODUCER, *telemetry.FLUSHER, *telemetry.AUDIT)}
PARTS = ("_bucket", "_count", "_sum")  # of a histogram


def targets(path: Path) -> list[tuple[str, str]]:
    """Queries and legends of a dashboard."""
    panels = json.loads(path.read_text())["panels"]
    return [(target["expr"], target["legendFormat"]) for panel in panels for target in panel["targets"]]


def read(selector: Selector) -> Series:
    """The series that a selector reads. Fails when there is none, or it is no such part of it."""
    part = next((part for part in PARTS if selector.name.endswith(part)), "")
    (name,) = Selector(selector.name.removesuffix(part)).names(set(ALL)) or {""}
    series = ALL.get(name)
    assert series is not None, f"nothing exports {selector.name}"
    assert (series.kind == "histogram") == bool(part), selector.name
    return series


dashboards = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


def test_there_is_one_for_each_question() -> None:
    assert [path.stem for path in DASHBOARDS] == ["drift", "flow", "lag", "letters"]
    assert len({json.loads(path.read_text())["uid"] for path in DASHBOARDS}) == len(DASHBOARDS)


@dashboards
def test_each_query_reads_what_is_exported_and_groups_by_its_labels(path: Path) -> None:
    for query, legend in targets(path):
        found = [(selector, read(selector)) for selector in selectors(query)]
        assert found, query
        labels = set.intersection(*(set(map(flat, series.attributes)) for _, series in found))
        assert grouped_by(query) <= labels, query
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= grouped_by(query), (query, legend)
        for selector, series in found:
            values = {flat(name): telemetry.VALUES.get(name, frozenset[str]()) for name in series.attributes}
            for label, pattern in selector.labels.items():
                assert set(pattern.split("|")) <= values[label], f"{query}: {label} is never that"


@dashboards
def test_a_dashboard_is_complete(path: Path) -> None:
    dashboard: dict[str, Any] = json.loads(path.read_text())
    (source,) = documents(OBSERVABILITY / "grafana/provisioning/datasources/prometheus.yaml")[0]["datasources"]
    panels = dashboard["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)
    for panel in panels:
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
        assert panel["title"], panel["id"]
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters))


def test_grafana_and_prometheus_find_one_another_and_what_they_read() -> None:
    (source,) = documents(OBSERVABILITY / "grafana/provisioning/datasources/prometheus.yaml")[0]["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = documents(OBSERVABILITY / "grafana/provisioning/dashboards/writebehind.yaml")[0]["providers"]
    mounts = {volume["target"]: volume["source"] for volume in SERVICES["grafana"]["volumes"][1:]}
    assert (COMPOSE / mounts[provider["options"]["path"]]).resolve() == DASHBOARDS[0].parent
    (scraped,) = documents(OBSERVABILITY / "prometheus.yml")
    places = set()
    for job in scraped["scrape_configs"]:
        places |= {tuple(place.split(":")) for one in job.get("static_configs", []) for place in one["targets"]}
        places |= {(name, str(one["port"])) for one in job.get("dns_sd_configs", []) for name in one["names"]}
    assert places == {
        ("flusher", SERVICES["flusher"]["environment"]["WRITEBEHIND_FLUSHER__HEALTH_ADDRESS"].rpartition(":")[2]),
        ("audit", SERVICES["audit"]["environment"]["OTEL_EXPORTER_PROMETHEUS_PORT"]),
        ("otel-collector", "8889"),
    }
    (collector,) = documents(OBSERVABILITY / "otel-collector.yaml")
    assert collector["exporters"]["prometheus"]["endpoint"].rpartition(":")[2] == "8889"
    ports = {
        protocol["endpoint"].rpartition(":")[2] for protocol in collector["receivers"]["otlp"]["protocols"].values()
    }
    assert SERVICES["flusher"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"].rpartition(":")[2] in ports
    for pipeline in collector["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= collector[kind].keys()

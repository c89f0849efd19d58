"""What a run of the audit exports: every series, within its bounds, before it ends, and whatever the collector does."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from tests.integration.audit_drift import in_sync, plant_all
from tests.integration.audit_world import QUICK, run, start
from tests.integration.flusher_entities import Counter
from tests.integration.flusher_process import TIMEOUT_S
from tests.integration.flusher_world import World, world
from tests.integration.guarded import OPERATOR, settings_of
from tests.integration.letters_world import letters
from tests.integration.telemetry_collector import collector
from writebehind.embedded.isolation import Isolation
from writebehind.flusher.audit.measures import Measures
from writebehind.flusher.audit.options import Options, Repair
from writebehind.flusher.audit.run import Result, audit
from writebehind.shared import telemetry
from writebehind.shared.registry import Registry


def test_every_series_says_what_the_report_says_and_its_attributes_are_bounded(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with letters(writebehind_isolated, tmp_path, Counter) as made:
        w = made.world
        w.flusher()
        plant_all(w, made, 2)
        w.wait_flushed()
        reader = InMemoryMetricReader()
        measures = Measures(MeterProvider([reader], shutdown_on_exit=False).get_meter("test"))
        dry = measured(w, measures, repair=Repair.AUTO)
        told = points(reader)
        assert counted(told, telemetry.AUDIT_ENTRIES) == of(dry, "verdicts")
        assert (dry.drift > 0, counted(told, telemetry.AUDIT_REPAIRS)) == (True, {})
        assert telemetry.AUDIT_VERIFIED_AGE.name not in told, "it never was in sync"
        applied = measured(w, measures, repair=Repair.AUTO, apply=True)
        repairs = {what.replace(" ", "_"): count for what, count in of(applied, "repairs").items()}
        assert {"enqueued_again", "invalidated"} <= repairs.keys()
        assert counted(points(reader), telemetry.AUDIT_REPAIRS) == repairs
        w.wait_flushed()
        w.cache.flushall()
        began = time.time()
        in_sync(w, 1, 10)
        clean = measured(w, measures)
        told = points(reader)
        (age,) = told[telemetry.AUDIT_VERIFIED_AGE.name]
        assert (clean.code, 0 <= age.value <= time.time() - began + 60) == (0, True)
        assert {point.attributes[telemetry.RUN_OUTCOME]: point.count for point in told[telemetry.AUDIT_RUN.name]} == {
            "drift": 2,
            "clean": 1,
        }
        check_bounds(told)


def measured(w: World, measures: Measures, **options: Any) -> Result:
    env = w.env_of(OPERATOR if options.get("apply") else "auditor")
    with audit(
        settings_of(env), Registry(w.entities), Options(("counter",), (), 1, 0, False, QUICK, **options), measures
    ) as job:
        return job.run(lambda *_: None, resume=False)


def points(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    """By series' name what was collected."""
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: list(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def counted(told: Mapping[str, list[Any]], series: telemetry.Series) -> dict[str, int]:
    """A counter's values by its second attribute."""
    return {point.attributes[series.attributes[1]]: point.value for point in told.get(series.name, ())}


def of(result: Result, part: str) -> dict[str, int]:
    return {name: count for name, count in result.entities["counter"][part].items() if count}


def check_bounds(told: Mapping[str, list[Any]]) -> None:
    """Every series is exported, none is not declared, and no attribute is a key."""
    assert told.keys() == {series.name for series in telemetry.AUDIT}
    for series in telemetry.AUDIT:
        for point in told[series.name]:
            assert set(point.attributes) <= set(series.attributes)
            for name, value in point.attributes.items():
                assert value in telemetry.VALUES.get(name, {"counter"}), (series.name, name)


def test_a_short_run_and_a_watch_export_to_a_collector(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        in_sync(w, 1, 10)
        with collector() as (port, received):
            ran = run(w, "audit", "--json", **exporting(port))
            assert (ran.code, ran.json["compared"]) == (0, 10)
            sent = b"".join(received.get("/v1/metrics", []))
            for series in telemetry.AUDIT:
                assert (series is telemetry.AUDIT_REPAIRS) != (series.name.encode() in sent), series.name
            assert b"writebehind-audit" in sent, "the service's name"
        with (
            collector() as (port, received),
            start(
                w, "audit", "--watch", "--interval", "600", **exporting(port), OTEL_METRIC_EXPORT_INTERVAL="200"
            ) as watch,
        ):
            try:
                name = telemetry.AUDIT_RUN.name.encode()
                w.wait(lambda: name in b"".join(received.get("/v1/metrics", [])), "an export between two runs")
            finally:
                watch.terminate()
                watch.communicate(timeout=TIMEOUT_S)


def test_a_collector_that_never_answers_keeps_no_run_from_its_end(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as black_hole, world(writebehind_isolated, tmp_path, Counter) as w:
        in_sync(w, 1, 10)
        ran = run(w, "audit", "--json", **exporting(black_hole.getsockname()[1]))
        assert (ran.code, ran.json["compared"]) == (0, 10)
        assert run(w, "audit", OTEL_METRICS_EXPORTER="nonsense").code == 2


def exporting(port: int) -> dict[str, str]:
    return {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}

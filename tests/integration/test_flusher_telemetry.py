"""What a running flusher exports: every series, within its bounds, and never at the expense of a batch."""

from __future__ import annotations

import re
import socket
from collections.abc import Collection
from decimal import Decimal
from pathlib import Path

from tests.integration.flusher_entities import Counter, Town
from tests.integration.flusher_process import Flusher
from tests.integration.flusher_world import World, world
from tests.integration.telemetry_bounds import check_bounds
from tests.integration.telemetry_collector import collector
from tests.integration.test_flusher_health import metric
from writebehind.embedded.isolation import Isolation
from writebehind.shared import telemetry
from writebehind.shared.declaration import declaration_of

RARE = {telemetry.SETTLE_FAILURES, telemetry.FENCES, telemetry.STOPS, telemetry.RETRIES}  # when something is wrong


def bounds(w: World) -> dict[str, Collection[str]]:
    return {
        **telemetry.VALUES,
        telemetry.DESTINATION: {w.topic(cls) for cls in w.entities},
        telemetry.PARTITION: {"0", "1"},
        telemetry.DB_COLLECTION: {declaration_of(cls).table for cls in w.entities},
        telemetry.ENTITY: {declaration_of(cls).name for cls in w.entities},
    }


def test_every_series_is_declared_and_its_labels_are_bounded(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter, Town) as w:
        flusher = w.flusher()
        w.load(Counter, 500)
        w.raw(Counter, b"nonsense", "1", partition=0)
        w.put(Town, ("NL", "Delft"), paid=Decimal(1))
        w.send()
        w.wait(lambda: metric(flusher, "writebehind_flusher_letters_total"), "a letter")
        w.wait_flushed()
        w.wait(lambda: lag_of(flusher) == 0, "the lag to be known and gone")
        seen = check_bounds(flusher.ask("/metrics")[1], telemetry.FLUSHER, bounds(w))
        assert seen >= {series.name for series in telemetry.FLUSHER if series not in RARE}
        counter = {"messaging_destination_name": w.topic(Counter)}
        assert metric(flusher, "writebehind_flusher_records_total", **counter) == 500
        assert 20 <= (metric(flusher, "writebehind_flusher_rows_total", **counter) or 0) < 500
        assert metric(flusher, "writebehind_flusher_letters_total", writebehind_letter_reason="unreadable") == 1
        flusher.stop()


def test_what_is_exported_when_something_is_wrong_is_declared_and_bounded_as_well(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with world(writebehind_isolated, tmp_path, Counter, Town) as w:
        flusher = w.flusher()
        w.load(Counter, 10)
        w.wait_flushed()
        claim = "UPDATE {}.progress SET owner_epoch = owner_epoch + 1 WHERE topic = %s RETURNING 1"
        w.query(claim, w.topic(Counter))  # as another owner would
        w.load(Counter, 10, seed=2)
        w.wait(lambda: metric(flusher, "writebehind_flusher_fences_total"), "a fence")
        w.cache.set(w.entry(Counter, 0), "no entry")
        w.put(Counter, 0, hits=1)
        w.send()
        w.wait(lambda: metric(flusher, "writebehind_flusher_settle_failures_total"), "a settlement that fails")
        w.cache.delete(w.entry(Counter, 0))
        w.execute("ALTER TABLE towns RENAME TO gone")
        w.put(Town, ("NL", "Delft"), paid=Decimal(1))
        w.send()
        w.wait(lambda: metric(flusher, "writebehind_flusher_stops_total"), "the entity to stop")
        w.execute("ALTER TABLE gone RENAME TO towns")
        w.wait_flushed()
        w.check()
        seen = check_bounds(flusher.ask("/metrics")[1], telemetry.FLUSHER, bounds(w))
        assert seen >= {series.name for series in RARE}
        flusher.stop()


def test_lag_grows_while_the_table_is_locked_and_belongs_to_owned_partitions_only(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        first = w.flusher()
        w.load(Counter, 10)
        w.wait_flushed()
        with w.connect() as blocker, blocker.transaction():
            blocker.execute("LOCK TABLE counters")
            w.load(Counter, 300, seed=2)
            w.wait(lambda: lag_of(first) == 300, "the lag to be seen")
            w.wait(lambda: metric(first, "writebehind_flusher_oldest_pending_age_seconds"), "its age to be seen")
        w.wait_flushed()
        second = w.flusher()
        w.wait(lambda: metric(second, "writebehind_flusher_partitions") == 1, "a partition to move")
        w.wait(lambda: metric(first, "writebehind_flusher_partitions") == 1, "a partition to be given away")
        w.wait(lambda: len(lags(second)) == 1, "the second to report its own")
        assert not lags(first).keys() & lags(second).keys()
        for flusher in (first, second):
            flusher.stop()


def lags(flusher: Flusher) -> dict[str, float]:
    found = re.findall(
        r'^writebehind_flusher_lag_records\{.*partition_id="(\d+)".*\} (\S+)$', flusher.ask("/metrics")[1], re.MULTILINE
    )
    return {partition: float(value) for partition, value in found}


def lag_of(flusher: Flusher) -> float | None:
    known = lags(flusher)
    return sum(known.values()) if len(known) == 2 else None


def test_a_collector_that_never_answers_delays_neither_batches_nor_the_shutdown(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as black_hole, world(writebehind_isolated, tmp_path, Counter) as w:
        flusher = w.flusher(
            OTEL_METRICS_EXPORTER="otlp",
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_METRIC_EXPORT_INTERVAL="200",
            OTEL_BSP_SCHEDULE_DELAY="200",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{black_hole.getsockname()[1]}",
        ).wait_ready()
        black_hole.settimeout(60)
        w.load(Counter, 500)
        with black_hole.accept()[0]:
            w.load(Counter, 500, seed=2)
            w.wait_flushed()
            w.check()
            flusher.stop()  # within what it promises


def test_a_collector_gets_metrics_and_spans(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with collector() as (port, received), world(writebehind_isolated, tmp_path, Counter) as w:
        flusher = w.flusher(
            OTEL_METRICS_EXPORTER="otlp",
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_METRIC_EXPORT_INTERVAL="200",
            OTEL_BSP_SCHEDULE_DELAY="200",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
        )
        w.load(Counter, 100)
        w.wait_flushed()
        w.wait(lambda: b"writebehind.flusher.records" in b"".join(received.get("/v1/metrics", [])), "metrics")
        w.wait(
            lambda: f"process {w.topic(Counter)}".encode() in b"".join(received.get("/v1/traces", [])),
            "a span to arrive",
        )
        flusher.stop()

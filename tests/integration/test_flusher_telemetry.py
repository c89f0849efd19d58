"""What a running flusher exports: every series, within its bounds, and never at the expense of a batch."""

from __future__ import annotations

import http.server
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

from tests.integration.flusher_entities import Counter, Town
from tests.integration.flusher_process import Flusher
from tests.integration.flusher_world import World, world
from tests.integration.test_flusher_health import metric
from writebehind.embedded.isolation import Isolation
from writebehind.shared import telemetry

SAMPLE = re.compile(r"^(\w+?)(?:_total|_bucket|_sum|_count)?(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="([^"]*)"')


def flat(name: str) -> str:
    """A name as Prometheus has it, without the unit that its exporter appends."""
    return name.replace(".", "_")


def check_bounds(w: World, text: str) -> set[str]:
    """Each sample is of a declared series and has declared labels with values from a bounded list. Gives the series."""
    topics = {w.topic(cls) for cls in w.entities}
    bounded = {flat(name): values for name, values in telemetry.VALUES.items()} | {
        flat(telemetry.DESTINATION): topics,
        flat(telemetry.PARTITION): {"0", "1"},
        flat(telemetry.DB_COLLECTION): {"counters", "towns"},
        flat(telemetry.ENTITY): {"counter", "town"},
    }
    by_name = {flat(series.name): series for series in telemetry.FLUSHER}
    seen: set[str] = set()
    for line in text.splitlines():
        if line.startswith(("#", "target_info", "otel_sdk")):
            continue
        found = SAMPLE.match(line)
        assert found is not None, line
        name = max((n for n in by_name if found[1].startswith(n)), key=len, default=None)
        assert name is not None, f"{line}: not declared"
        seen.add(by_name[name].name)
        for label, value in LABEL.findall(found[2] or ""):
            if label == "le":
                continue
            assert label in map(flat, by_name[name].attributes), line
            assert label not in bounded or value in bounded[label], line
            assert label in bounded or re.fullmatch(r"[0-9A-Z]{5}|[A-Za-z]+|\w\wxxx", value), line
    return seen


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
        seen = check_bounds(w, flusher.ask("/metrics")[1])
        rare = {telemetry.SETTLE_FAILURES, telemetry.FENCES, telemetry.STOPS, telemetry.RETRIES}
        assert seen >= {series.name for series in telemetry.FLUSHER if series not in rare}
        counter = {"messaging_destination_name": w.topic(Counter)}
        assert metric(flusher, "writebehind_flusher_records_total", **counter) == 500
        assert 20 <= (metric(flusher, "writebehind_flusher_rows_total", **counter) or 0) < 500
        assert metric(flusher, "writebehind_flusher_letters_total", writebehind_letter_reason="unreadable") == 1
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
        w.wait(lambda: b"writebehind.flusher.records" in received.get("/v1/metrics", b""), "metrics to arrive")
        w.wait(lambda: f"process {w.topic(Counter)}".encode() in received.get("/v1/traces", b""), "a span to arrive")
        flusher.stop()


@contextmanager
def collector() -> Iterator[tuple[int, dict[str, bytes]]]:
    """A server that takes whatever is posted: its port, and what it got by path."""
    received: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            received[self.path] = received.get(self.path, b"") + body
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name for it
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port, received
        finally:
            server.shutdown()

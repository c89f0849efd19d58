"""What a service is told of its writes, and how a write is followed from its call into the flush."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.integration.direct_world import DDL as DIRECT_DDL
from tests.integration.direct_world import Aside
from tests.integration.flusher_entities import Counter
from tests.integration.flusher_process import ROOT, TIMEOUT_S
from tests.integration.flusher_world import World, world
from tests.integration.producer_world import DDL, Player, Visit
from tests.integration.producer_world import world as producer_world
from tests.integration.telemetry_bounds import check_bounds, samples
from tests.integration.telemetry_collector import collector
from writebehind.embedded.isolation import Isolation
from writebehind.shared import telemetry
from writebehind.shared.telemetry_producer import PRODUCER

# A machine that is busy is not a cache that is down.
PATIENT = {
    "WRITEBEHIND_CACHE__TIMEOUT_S": "20",
    "WRITEBEHIND_CACHE__BUDGET_S": "20",
    "WRITEBEHIND_PRODUCER__TIMEOUT_S": "60",
    "WRITEBEHIND_PRODUCER__DELIVERY_TIMEOUT_S": "300",
}
QUICK = {"OTEL_METRIC_EXPORT_INTERVAL": "200", "OTEL_BSP_SCHEDULE_DELAY": "200"}


def service(mode: str, env: Mapping[str, str]) -> Any:
    """Run the service to its end, and give what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.telemetry_service", mode],
        cwd=ROOT,
        env={**os.environ, **PATIENT, **env},
        capture_output=True,
        text=True,
        timeout=2 * TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_write_is_followed_from_its_call_through_the_record_into_the_flush(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with collector() as (port, received), world(writebehind_isolated, tmp_path, Counter) as w:
        otlp = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", **QUICK}
        traces = service("traced", w.env_of("producer", **otlp))["traces"]
        topic = w.topic(Counter)
        spans = spans_of(received)
        requests = {span.span_id: span for span in spans if span.name == "request"}
        sent = {span.span_id: span for span in spans if span.name == f"send {topic}"}
        assert {span.trace_id.hex() for span in requests.values()} == set(traces)
        assert all(span.kind == Span.SPAN_KIND_PRODUCER and span.parent_span_id in requests for span in sent.values())
        assert sorted(attributes(span).get(telemetry.BATCH_COUNT, 1) for span in sent.values()) == [1, 1, 1, 6]
        # Of 11 records 9 were written within a sampled span; the others are as long as without telemetry.
        headers = list(headers_of(w))
        assert len(headers) == 11
        carried = [{name: value.decode() for name, value in found} for found in headers if found]
        assert all(found.keys() == {"traceparent"} for found in carried)
        ids = [found["traceparent"].split("-") for found in carried]
        assert sorted(part[2] for part in ids) == sorted(
            key.hex() for key, span in sent.items() for _ in range(attributes(span).get(telemetry.BATCH_COUNT, 1))
        )
        assert {part[1] for part in ids} == set(traces)

        flusher = w.flusher(OTEL_TRACES_EXPORTER="otlp", **otlp)
        w.wait_flushed()
        flusher.stop()
        flushed = spans_of(received)
        batches = [span for span in flushed if span.name == f"process {topic}"]
        assert {link.span_id for span in batches for link in span.links} == set(sent)
        assert sum(len(span.links) for span in batches) <= 9
        assert sum(attributes(span)[telemetry.BATCH_COUNT] for span in batches) == 11
        merges = [span for span in flushed if span.name == "MERGE counters"]
        assert {span.parent_span_id for span in merges} == {span.span_id for span in batches}
        assert all(attributes(span)[telemetry.DB_SYSTEM] == "postgresql" for span in merges)


def test_a_collector_that_never_answers_delays_neither_writes_nor_the_end_of_the_client(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as black_hole, world(writebehind_isolated, tmp_path, Counter) as w:
        endpoint = f"http://127.0.0.1:{black_hole.getsockname()[1]}"
        # The SDK gives up an export after 1,000 s: whoever waited for it would not end before the test does.
        told = service(
            "abandoned",
            w.env_of("producer", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_EXPORTER_OTLP_TIMEOUT="1000", **QUICK),
        )
        assert told["clean"]
        black_hole.settimeout(TIMEOUT_S)
        black_hole.accept()[0].close()  # it was asked


def test_every_series_of_a_service_is_declared_and_its_labels_are_bounded(writebehind_isolated: Isolation) -> None:
    with producer_world(writebehind_isolated, (Player, Visit, Aside), ddl=DDL + ";" + DIRECT_DDL) as here:
        texts = service("loaded", here.env_of("producer"))["texts"]
        bounds = {
            **telemetry.VALUES,
            telemetry.DESTINATION: {here.topic(Player), here.topic(Visit)},
            telemetry.ENTITY: {"player", "visit", "aside"},
        }
        seen = [check_bounds(text, PRODUCER, bounds) for text in texts]
    assert seen[-1] == {series.name for series in PRODUCER}
    without_cache, without_broker, after = map(samples, texts)
    player, aside = {"writebehind_entity": "player"}, {"writebehind_entity": "aside"}

    def writes(outcome: str, **labels: str) -> float:
        return after("writebehind_producer_writes_total", writebehind_outcome=outcome, **labels)

    assert writes("enqueued", **player) == 302
    assert writes("acknowledged", **player) == 12
    assert writes("refused", **player) == 2
    assert writes("unknown", **player) == 1
    assert writes("not_applied", **player) == 1
    assert writes("shed", writebehind_entity="visit") == 1
    assert (writes("acknowledged", **aside), writes("refused", **aside), writes("uncommitted", **aside)) == (1, 1, 1)
    assert after("messaging_client_sent_messages_total", error_type="") == 312
    assert after("writebehind_producer_late_failures_total", writebehind_outcome="unknown", **player) == 3
    assert without_cache("writebehind_producer_breaker_open", writebehind_breaker="write_behind") == 1
    assert without_broker("writebehind_producer_breaker_open", writebehind_breaker="write_behind") == 0
    assert without_broker("writebehind_producer_buffer_records") == 3
    assert without_broker("writebehind_producer_buffer_utilization") == 1
    assert after("writebehind_producer_buffer_size_bytes") == 0


def spans_of(received: Mapping[str, list[bytes]]) -> list[Span]:
    """The spans that a collector got."""
    requests = [ExportTraceServiceRequest.FromString(body) for body in list(received.get("/v1/traces", []))]
    parts = [part for request in requests for part in request.resource_spans]
    return [span for part in parts for scope in part.scope_spans for span in scope.spans]


def attributes(span: Span) -> dict[str, Any]:
    return {
        found.key: found.value.int_value if found.value.HasField("int_value") else found.value.string_value
        for found in span.attributes
    }


def headers_of(w: World) -> list[list[tuple[str, bytes]]]:
    """The headers of every record of `Counter`."""
    topic = w.topic(Counter)
    consumer = Consumer({"bootstrap.servers": w.corner.bootstrap_servers, "group.id": f"{w.corner.group}-headers"})
    found: list[list[tuple[str, bytes]]] = []
    try:
        for number, end in w.ends(Counter).items():
            consumer.assign([TopicPartition(topic, number, 0)])
            messages: list[Any] = consumer.consume(end, TIMEOUT_S) if end else []
            found += [message.headers() or [] for message in messages]
    finally:
        consumer.close()
    return found

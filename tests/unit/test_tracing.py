"""Spans of writes: which records carry whose, and how many a process makes."""

from __future__ import annotations

import time
from typing import Annotated

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import use_span

from writebehind.producer import Entity, Key, WriteBehind, tracing
from writebehind.producer.tracing import span_of, traceparent
from writebehind.producer.write import Target, Write, check_update
from writebehind.shared.declaration import declaration_of


class Player(Entity, table="players", strategy=WriteBehind()):
    id: Annotated[int, Key]
    name: str


TARGET = Target(declaration_of(Player), "t", "c")


def writes() -> list[Write]:
    return [check_update(TARGET, number, {"name": "Ada"}, size_max=1 << 20) for number in (1, 2)]


def test_a_process_makes_so_many_spans_a_second_and_then_records_carry_the_caller_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracer = TracerProvider(sampler=ALWAYS_ON).get_tracer("service")
    now = 100.0
    monkeypatch.setattr(tracing, "_TRACER", tracer)
    monkeypatch.setattr(tracing, "_RATION", tracing._Ration(2))
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with use_span(tracer.start_span("request")) as request:
        for second in (100.0, 100.5, 101.0):
            now = second
            for left in (True, True, False) if second != 100.5 else (False,):
                group = writes()
                span = span_of(group)
                assert (span is not None) == left
                carried = request if span is None else span
                header = traceparent(carried.get_span_context())
                assert [write.headers for write in group] == [[("traceparent", header)]] * 2


def test_what_is_not_recorded_uses_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "_RATION", tracing._Ration(0))
    for tracer in (None, TracerProvider(sampler=ALWAYS_OFF).get_tracer("service")):
        group = writes()
        if tracer is None:
            assert span_of(group) is None
        else:
            with use_span(tracer.start_span("request")):
                assert span_of(group) is None
        assert [write.headers for write in group] == [None, None]

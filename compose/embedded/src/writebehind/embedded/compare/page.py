"""The comparison as one page of HTML that needs nothing else. Pure."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from typing import Final

from writebehind.flusher.audit.page import STYLE, WIDTH, rect, svg

from .outcome import BUCKET_S, Comparison, Latency
from .view import ms, rows

LEFT: Final = 220
ROW: Final = 26
TALL: Final = 90
COLORS: Final[Mapping[str, str]] = {"read": "#1667b7", "write": "#2a7d3a", "failed": "#c62828"}


def page(found: Comparison) -> str:
    """The whole page."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>writebehind compare</title>",
        STYLE,
        f"<h1>Three strategies under one load</h1><p>{html.escape(str(found.machine.get('at', '')))}</p>",
        _table(found),
        *_latencies(found),
    ]
    if found.skipped:
        parts.append(f"<p>Nothing was killed: {html.escape(found.skipped)}</p>")
    else:
        parts += [_outages(found, "cache"), _outages(found, "database")]
    told = {"parameters": found.parameters, "machine": found.machine}
    parts.append(f"<h2>Parameters and machine</h2><pre>{html.escape(json.dumps(told, indent=1))}</pre></html>")
    return "\n".join(parts)


def _table(found: Comparison) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ["", *found.strategies])
    lines = "".join(
        f"<tr><td>{html.escape(label)}</td>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
        for label, cells in rows(found)
    )
    return f"<table><tr>{head}</tr>{lines}</table>"


def _latencies(found: Comparison) -> list[str]:
    """One plot of calls, one of how soon writes are seen: from p50 to p99 a bar, to the maximum a line."""
    calls: dict[str, tuple[Latency, str]] = {}
    for name, one in found.strategies.items():
        calls |= {f"{name}: read": (one.load.read, COLORS["read"]), f"{name}: write": (one.load.write, COLORS["write"])}
    seen = {f"{name}: in the table": (one.seen.table, COLORS["write"]) for name, one in found.strategies.items()}
    seen |= {f"{name}: by a client": (one.seen.second_client, COLORS["read"]) for name, one in found.strategies.items()}
    return [
        "<h2>Calls: p50 to p99 (bar) and the slowest (line), ms, logarithmic</h2>" + _spans(calls),
        "<h2>From the acknowledgement until a write is seen, the same way</h2>" + _spans(seen),
    ]


def _spans(spans: Mapping[str, tuple[Latency, str]]) -> str:
    values = [v for latency, _ in spans.values() for v in (latency.p50_ms, latency.max_ms) if v]
    low, high = min([0.1, *values]), max([1.0, *values])

    def x(value: float | None) -> float:
        part = math.log(max(value or low, low) / low) / math.log(high / low)
        return LEFT + part * (WIDTH - LEFT - 90)

    parts = [svg(ROW * len(spans) + 20, "latencies")]
    for index, (label, (latency, color)) in enumerate(spans.items()):
        y = index * ROW + 4
        parts.append(f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{html.escape(label)}</text>')
        if latency.count:
            p50, p99, most = x(latency.p50_ms), x(latency.p99_ms), x(latency.max_ms)
            told = f"p50 {ms(latency.p50_ms)}, p99 {ms(latency.p99_ms)}, max {ms(latency.max_ms)} ms"
            parts.append(f'<line x1="{p99:.0f}" y1="{y + 9}" x2="{most:.0f}" y2="{y + 9}" stroke="{color}"/>')
            parts.append(rect(p50, y, max(2.0, p99 - p50), ROW - 8, color, told))
            parts.append(f'<text x="{most + 6:.0f}" y="{y + 13}">{ms(latency.max_ms)}</text>')
    for decade in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1):
        at, foot = x(10.0**decade), ROW * len(spans) + 4
        parts.append(f'<line class="axis" x1="{at:.0f}" y1="0" x2="{at:.0f}" y2="{foot}" stroke-dasharray="2 4"/>')
        parts.append(f'<text x="{at:.0f}" y="{foot + 12}" text-anchor="middle">{10.0**decade:g}</text>')
    return "".join(parts) + "</svg>"


def _outages(found: Comparison, server: str) -> str:
    """What became of the calls over time, a strip per strategy."""
    title = f"<h2>The {server} is killed for {found.parameters.get('outage_s', 0):g} s</h2>"
    marks = "".join(f'<i style="background:{color}"></i>{name}' for name, color in COLORS.items())
    strips: list[str] = []
    for name, one in found.strategies.items():
        outage = one.cache_killed if server == "cache" else one.database_killed
        if outage is not None:
            strips.append(f"<p>{html.escape(name)}</p>" + _strip(outage.timeline))
    return title + f'<p class="key">calls per {BUCKET_S:g} s: {marks}</p>' + "".join(strips)


def _strip(timeline: Sequence[Mapping[str, int]]) -> str:
    most = max([sum(bucket.values()) for bucket in timeline] + [1])
    wide = (WIDTH - 60) / max(1, len(timeline))
    parts = [svg(TALL + 20, "calls over time")]
    for index, bucket in enumerate(timeline):
        y = float(TALL)
        for name, color in COLORS.items():
            tall = TALL * bucket[name] / most
            y -= tall
            if tall:
                at = f"{index * BUCKET_S:g} s: {bucket[name]:,} {name}"
                parts.append(rect(60 + index * wide, y, max(1.0, wide - 1), tall, color, at))
        if index % round(1 / BUCKET_S) == 0:
            parts.append(f'<text x="{60 + index * wide:.0f}" y="{TALL + 14}">{index * BUCKET_S:g} s</text>')
    parts.append(f'<text x="54" y="12" text-anchor="end">{most:,}</text>')
    return "".join(parts) + "</svg>"

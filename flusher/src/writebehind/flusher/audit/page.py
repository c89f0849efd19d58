"""The audit as one page of HTML that needs nothing else: this run, and the plots of those before. Pure."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any, Final

from .diff import Verdict
from .report import lines
from .run import Result

WIDTH: Final = 1000
HEIGHT: Final = 200
LEFT: Final = 60
ROW: Final = 26

COLORS: Final[Mapping[str, str]] = {
    Verdict.LOST: "#c62828",
    Verdict.STALE: "#d9822b",
    Verdict.DIFFERS: "#8e44ad",
    Verdict.ORPHAN: "#1667b7",
    Verdict.REFUSED: "#5d4037",
    Verdict.UNREADABLE: "#607d8b",
}

STYLE: Final = """<style>
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1040px; padding: 0 1em; color: #222 }
h1 { font-size: 22px; margin-bottom: 0 } h2 { font-size: 16px; margin-top: 2em }
pre { font-size: 12px; overflow-x: auto; background: #f6f6f6; padding: 1em; white-space: pre-wrap }
table { border-collapse: collapse } th, td { text-align: right; padding: 2px 12px 2px 0; border-bottom: 1px solid #eee }
th:first-child, td:first-child { text-align: left } th { font-weight: normal; color: #555 }
svg text { font-size: 11px; fill: #555 } .axis { stroke: #bbb }
.key i { display: inline-block; width: 10px; height: 10px; margin: 0 5px 0 14px }
.ok { color: #2a7d3a } .bad { color: #c62828 }
</style>"""


def page(result: Result, history: Sequence[Mapping[str, Any]]) -> str:
    """The whole page. `history`: finished runs, oldest first, as `Runs.history` gives them."""
    state = f'<b class="bad">{result.drift:,} drifted</b>' if result.drift else '<b class="ok">no drift</b>'
    began = result.started_at[:19].replace("T", " ")
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>writebehind audit</title>",
        STYLE,
        f"<h1>Drift audit</h1><p>run {result.run}, {html.escape(began)} UTC: {state}</p>",
        _table(result),
        "<h2>Drift found by each run</h2>" + _key() + _over_time(history),
        "<h2>Drift by entity, this run</h2>" + _by_entity(result),
        "<h2>How old the drift can be, this run</h2>" + _by_age(result),
        f"<h2>Report</h2><pre>{html.escape(chr(10).join(lines(result)))}</pre></html>",
    ]
    return "\n".join(parts)


def _table(result: Result) -> str:
    names = [str(verdict) for verdict in Verdict]
    head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in ["entity", "compared", *names])
    rows = ""
    for entity, told in result.entities.items():
        cells = [f"{told['compared']:,}", *(f"{told['verdicts'][name]:,}" for name in names)]
        rows += f"<tr><td>{html.escape(entity)}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    return f"<table><tr>{head}</tr>{rows}</table>"


def _key() -> str:
    marks = "".join(f'<i style="background:{color}"></i>{name}' for name, color in COLORS.items())
    return f'<p class="key">{marks}</p>'


def _over_time(history: Sequence[Mapping[str, Any]]) -> str:
    """One bar per run, of the entries that each verdict names."""
    if not history:
        return "<p>no run has finished yet</p>"
    totals = [_sum(told["verdicts"] for told in run["entities"].values()) for run in history]
    most = max([sum(total.get(name, 0) for name in COLORS) for total in totals] + [1])
    step = min(60.0, (WIDTH - LEFT) / len(history))
    parts = [svg(HEIGHT + 40, "drift found by each run")]
    for index, (run, total) in enumerate(zip(history, totals, strict=True)):
        x, y = LEFT + index * step, float(HEIGHT + 10)
        for name, color in COLORS.items():
            tall = HEIGHT * total.get(name, 0) / most
            y -= tall
            if tall:
                parts.append(
                    rect(x + 1, y, max(1.0, step - 2), tall, color, f"run {run['run']}: {name} {total[name]:,}")
                )
        if index % max(1, round(110 / step)) == 0 and x < WIDTH - 70:  # a label at the edge would be cut off
            parts.append(
                f'<text x="{x:.0f}" y="{HEIGHT + 28}">{html.escape(run["started_at"][5:16].replace("T", " "))}</text>'
            )
    parts.append(f'<line class="axis" x1="{LEFT}" y1="{HEIGHT + 10}" x2="{WIDTH}" y2="{HEIGHT + 10}"/>')
    parts.append(f'<text x="{LEFT - 6}" y="20" text-anchor="end">{most:,}</text>')
    parts.append(f'<text x="{LEFT - 6}" y="{HEIGHT + 12}" text-anchor="end">0</text></svg>')
    return "".join(parts)


def _by_entity(result: Result) -> str:
    bars = {name: {str(v): told["verdicts"][v] for v in COLORS} for name, told in result.entities.items()}
    return _rows(bars, "drift by entity")


def _by_age(result: Result) -> str:
    ages = _sum(told["drift_by_age_s"] for told in result.entities.values())
    names = {"<=60": "1 min", "<=300": "5 min", "<=600": "10 min", "<=3600": "1 h", "<=86400": "1 day"}
    bars = {f"up to {names[age]}" if age in names else "older": {"drift": count} for age, count in ages.items()}
    return _rows(bars, "age of drift")


def _rows(bars: Mapping[str, Mapping[str, int]], name: str) -> str:
    """Horizontal bars, one per name."""
    left = 180
    most = max([sum(bar.values()) for bar in bars.values()] + [1])
    parts = [svg(ROW * len(bars) + 6, name)]
    for index, (label, bar) in enumerate(bars.items()):
        x, y = float(left), index * ROW + 4
        parts.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{html.escape(label)}</text>')
        for verdict, count in bar.items():
            wide = (WIDTH - left - 80) * count / most
            if count:
                parts.append(
                    rect(x, y, max(1.0, wide), ROW - 8, COLORS.get(verdict, "#78909c"), f"{verdict} {count:,}")
                )
                x += wide
        parts.append(f'<text x="{x + 6:.0f}" y="{y + 14}">{sum(bar.values()):,}</text>')
    return "".join(parts) + "</svg>"


def svg(height: float, name: str) -> str:
    """The begin of a picture as wide as the page."""
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" width="100%" role="img" aria-label="{html.escape(name)}">'


def rect(x: float, y: float, wide: float, tall: float, color: str, title: str) -> str:
    """A rectangle that says what it is when it is pointed at."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}" fill="{color}">'
        f"<title>{html.escape(title)}</title></rect>"
    )


def _sum(counts: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return total

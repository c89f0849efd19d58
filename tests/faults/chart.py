"""The chart of a run as inline SVG: acknowledged, flushed and lag over time, with the faults marked. Pure."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from tests.faults.timeline import Incident, Point

WIDTH: Final = 1160
TOP_HEIGHT: Final = 260  # acknowledged and flushed
LAG_HEIGHT: Final = 130
MARK_HEIGHT: Final = 18
LEFT: Final = 70
POINTS_MAX: Final = 1500  # more cannot be seen

STYLE: Final = """<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 1200px; color: #222 }
pre { font-size: 12px; overflow-x: auto; background: #f6f6f6; padding: 1em }
th { text-align: left; font-weight: normal; color: #555; padding-right: 2em }
svg text { font-size: 11px; fill: #555 }
.acknowledged { stroke: #1667b7; fill: none; stroke-width: 1.6 }
.flushed { stroke: #2a9d4a; fill: none; stroke-width: 1.6; stroke-dasharray: 5 2 }
.lag { stroke: none; fill: #d9822b }
.fault { fill: #c62828; fill-opacity: .13 }
.recovery { fill: #c62828; fill-opacity: .05 }
.axis { stroke: #bbb }
</style>"""

Scale = Callable[[float], float]


def draw(
    began: float, points: Sequence[Point], acknowledged_at: Mapping[int, int], incidents: Sequence[Incident]
) -> str:
    """One picture; hover over a mark to read the fault's name."""
    last_s = max([point.at - began for point in points] + [float(second) for second in acknowledged_at] + [1.0])
    acknowledged = _running(acknowledged_at)
    flushed = [(point.at - began, float(point.flushed)) for point in points]
    lag = [(point.at - began, float(max(0, point.written - point.flushed))) for point in points]
    bottom = MARK_HEIGHT + TOP_HEIGHT
    height = bottom + 30 + LAG_HEIGHT + 30

    def x(seconds: float) -> float:
        return LEFT + seconds / last_s * (WIDTH - LEFT - 10)

    most, most_lag = _most(acknowledged, flushed), _most(lag)
    y, y_lag = _scale(MARK_HEIGHT, TOP_HEIGHT, most), _scale(bottom + 30, LAG_HEIGHT, most_lag)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" width="100%" role="img" aria-label="records over time">',
        *_marks(began, incidents, x, height - 30),
        f'<path class="acknowledged" d="{_line(acknowledged, x, y)}"/>',
        f'<path class="flushed" d="{_line(flushed, x, y)}"/>',
        f'<path class="lag" d="{_line([(0.0, 0.0), *lag, (last_s, 0.0)], x, y_lag)}Z"/>',
        *_axis(x, bottom, last_s, most, MARK_HEIGHT, "acknowledged (solid), flushed (dashed)"),
        *_axis(x, bottom + 30 + LAG_HEIGHT, last_s, most_lag, bottom + 30, "lag in records"),
        "</svg>",
    ]
    return "".join(parts)


def escaped(lines: Iterable[str]) -> str:
    return html.escape("\n".join(lines))


def _running(per_second: Mapping[int, int]) -> list[tuple[float, float]]:
    """Totals at the end of each second."""
    total = 0
    found = [(0.0, 0.0)]
    for second, count in sorted(per_second.items()):
        found.append((float(second), float(total)))
        total += count
        found.append((second + 1.0, float(total)))
    return found


def _most(*series: Sequence[tuple[float, float]]) -> float:
    return max([value for one in series for _, value in one] + [1.0])


def _scale(top: float, height: float, most: float) -> Scale:
    return lambda value: top + height * (1 - value / most)


def _line(series: Sequence[tuple[float, float]], x: Scale, y: Scale) -> str:
    step = max(1, len(series) // POINTS_MAX)
    shown = [*series[::step], series[-1]]
    return "M" + "L".join(f"{x(seconds):.1f},{y(value):.1f}" for seconds, value in shown)


def _marks(began: float, incidents: Sequence[Incident], x: Scale, bottom: float) -> list[str]:
    parts: list[str] = []
    for incident in incidents:
        start, ended = incident.began - began, (incident.ended or incident.began) - began
        recovered = ended + (incident.recovery_s or 0.0)
        title = html.escape(f"{incident.planned.variant} at {start:.1f} s")
        for name, left, right in (("fault", start, ended), ("recovery", ended, recovered)):
            width = max(1.0, x(right) - x(left))
            parts.append(
                f'<rect class="{name}" x="{x(left):.1f}" y="{MARK_HEIGHT}" width="{width:.1f}" '
                f'height="{bottom - MARK_HEIGHT}"><title>{title}</title></rect>'
            )
        parts.append(f'<text x="{x(start):.1f}" y="12">{incident.planned.variant.family}</text>')
    return parts


def _axis(x: Scale, bottom: float, last_s: float, most: float, top: float, name: str) -> list[str]:
    ticks = [last_s * part / 10 for part in range(11)]
    return [
        f'<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{WIDTH - 10}" y2="{bottom}"/>',
        f'<line class="axis" x1="{LEFT}" y1="{top}" x2="{LEFT}" y2="{bottom}"/>',
        f'<text x="{LEFT - 6}" y="{top + 10}" text-anchor="end">{most:,.0f}</text>',
        f'<text x="{LEFT + 6}" y="{top + 12}">{name}</text>',
        *[f'<text x="{x(tick):.1f}" y="{bottom + 14}" text-anchor="middle">{tick:.0f} s</text>' for tick in ticks],
    ]

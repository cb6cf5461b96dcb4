"""Small charts as inline SVG; colours come from the page's style sheet by class, so they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 720
LEFT, RIGHT = 76, 16


@dataclass(frozen=True, kw_only=True)
class Point:
    x: float
    y: float
    kind: str  #: CSS class
    title: str  #: shown under the pointer


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A moment, drawn as a line across the chart."""

    x: float
    label: str


def nice_step(span: float, about: int = 6) -> float:
    """A step of 1, 2 or 5 times a power of ten that divides the span into about so many parts."""
    raw = max(span, 1e-6) / about
    power = 10 ** math.floor(math.log10(raw))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999))


def _ticks(high: float, about: int) -> list[float]:
    step = nice_step(high, about)
    return [number * step for number in range(math.floor(high / step + 1e-9) + 1)]


def _number(value: float) -> str:
    return f"{value:.10g}"


def _svg(height: int, label: str, parts: Sequence[str]) -> str:
    head = f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}" xmlns="http://www.w3.org/2000/svg">'
    return "\n".join([head, *parts, "</svg>"])


def _text(x: float, y: float, text: str, kind: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _dot(x: float, y: float, kind: str, title: str, radius: float = 5) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" class="{kind}"><title>{escape(title)}</title></circle>'


def _x_axis(high: float, top: float, bottom: float, unit: str) -> tuple[list[str], float]:
    """The parts, and pixels per unit."""
    scale = (WIDTH - LEFT - RIGHT) / high
    parts = []
    for tick in _ticks(high, 8):
        x = LEFT + tick * scale
        parts += [_line(x, top, x, bottom, "grid"), _text(x, bottom + 18, f"{_number(tick)} {unit}", "tick")]
    return parts, scale


def waits_chart(waits: Mapping[str, Sequence[float]]) -> str:
    """One row a lane, one dot a request at its wait in seconds, dots that would overlap stacked, a bar at the median."""
    row_height, top = 66, 8
    bottom = top + row_height * len(waits)
    high = max([1.0, *(max(values) for values in waits.values() if values)]) * 1.03
    parts, scale = _x_axis(high, top, bottom, "s")
    for row, (lane, values) in enumerate(waits.items()):
        base = top + row_height * (row + 1) - 12
        parts += [_line(LEFT, base + 8, WIDTH - RIGHT, base + 8, "axis"), _text(LEFT - 12, base - 14, lane, "label", "end")]
        parts += _stacked([LEFT + value * scale for value in sorted(values)], sorted(values), base, f"lane-{lane}")
        if values:
            x = LEFT + sorted(values)[(len(values) - 1) // 2] * scale
            parts.append(
                f"<g><title>median {sorted(values)[(len(values) - 1) // 2]:.2f} s</title>{_line(x, base + 8, x, base - 44, 'median')}</g>"
            )
    return _svg(bottom + 28, "Seconds that each request waited, by lane", parts)


def _stacked(xs: Sequence[float], values: Sequence[float], base: float, kind: str) -> list[str]:
    """Dots along a line, each on the lowest level where it touches no other."""
    ends: list[float] = []
    dots = []
    for x, value in zip(xs, values, strict=True):
        level = next((number for number, end in enumerate(ends) if x - end >= 10), len(ends))
        ends[level : level + 1] = [x]
        dots.append(_dot(x, base - min(level, 5) * 10, kind, f"{value:.2f} s", 4.6))
    return dots


def timeline_chart(points: Sequence[Point], marks: Sequence[Mark], label: str) -> str:
    """Seconds along, seconds up; the marks' labels stand above."""
    top, bottom = 42, 210
    high_x = max([1.0, *(point.x for point in points), *(mark.x for mark in marks)]) * 1.02
    high_y = max([0.5, *(point.y for point in points)]) * 1.08
    parts, scale = _x_axis(high_x, top, bottom, "s")
    for tick in _ticks(high_y, 4):
        y = bottom - tick * (bottom - top) / high_y
        parts += [_line(LEFT, y, WIDTH - RIGHT, y, "grid"), _text(LEFT - 10, y + 4, f"{_number(tick)} s", "tick", "end")]
    for number, mark in enumerate(marks):
        x = LEFT + mark.x * scale
        # The first label goes to the left of its line and the second to the right of its, so that they don't meet; edges come before that.
        anchor = "end" if x > WIDTH * 0.75 or (number == 0 and x > LEFT + 170) else "start"
        parts += [_line(x, top - 22 + 13 * (number % 2), x, bottom, "mark")]
        parts += [_text(x + (-6 if anchor == "end" else 6), top - 14 + 15 * (number % 2), mark.label, "mark-label", anchor)]
    parts += [_dot(LEFT + point.x * scale, bottom - point.y * (bottom - top) / high_y, point.kind, point.title) for point in points]
    return _svg(bottom + 28, label, parts)


def scatter_chart(points: Sequence[Point], rows: Mapping[str, Sequence[Point]], label: str) -> str:
    """Seconds along, seconds up; later points lie over earlier ones.

    :param rows: what has a time but no height: a row of ticks each, above
    """
    top = 14 + 22 * len(rows)
    bottom = top + 250
    high_x = max([1.0, *(point.x for found in (points, *rows.values()) for point in found)]) * 1.02
    high_y = max([1.0, *(point.y for point in points)]) * 1.05
    parts, scale = _x_axis(high_x, top, bottom, "s")
    for tick in _ticks(high_y, 5):
        y = bottom - tick * (bottom - top) / high_y
        parts += [_line(LEFT, y, WIDTH - RIGHT, y, "grid"), _text(LEFT - 10, y + 4, f"{_number(tick)} s", "tick", "end")]
    for number, (name, found) in enumerate(rows.items()):
        parts += _tick_row(found, name, 8 + 22 * number, scale)
    parts += [_dot(LEFT + point.x * scale, bottom - point.y * (bottom - top) / high_y, point.kind, point.title, 4) for point in points]
    return _svg(bottom + 28, label, parts)


def _tick_row(points: Sequence[Point], name: str, top: float, scale: float) -> list[str]:
    parts = [_text(LEFT - 10, top + 10, name, "tick", "end")]
    for point in points:
        x = LEFT + point.x * scale
        parts.append(f"<g><title>{escape(point.title)}</title>{_line(x, top, x, top + 13, point.kind)}</g>")
    return parts


def curve_chart(series: Mapping[str, Sequence[tuple[float, float]]], label: str) -> str:
    """Lines over a common x, scaled to the values' own range."""
    points = [point for values in series.values() for point in values]
    top, bottom = 10, 150
    low_x, high_x = min(x for x, _ in points), max(x for x, _ in points)
    low_y, high_y = min(y for _, y in points), max(y for _, y in points)
    span_x, span_y = high_x - low_x or 1.0, high_y - low_y or 1.0

    def place(x: float, y: float) -> str:
        return f"{LEFT + (x - low_x) / span_x * (WIDTH - LEFT - RIGHT):.1f},{bottom - 6 - (y - low_y) / span_y * (bottom - top - 12):.1f}"

    parts = [_line(LEFT, bottom, WIDTH - RIGHT, bottom, "axis")]
    parts += [_text(LEFT - 10, top + 10, f"{high_y:.3g}", "tick", "end"), _text(LEFT - 10, bottom - 2, f"{low_y:.3g}", "tick", "end")]
    parts += [
        _text(LEFT, bottom + 18, f"step {low_x:g}", "tick", "start"),
        _text(WIDTH - RIGHT, bottom + 18, f"step {high_x:g}", "tick", "end"),
    ]
    for number, (name, values) in enumerate(series.items()):
        path = " ".join(place(x, y) for x, y in values)
        parts.append(f'<polyline class="curve curve-{number}" points="{path}"><title>{escape(name)}</title></polyline>')
    return _svg(bottom + 28, label, parts)

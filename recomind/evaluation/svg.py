"""Plots as inline SVG, coloured by the page's style so that they read in light and in dark.

Written by hand: the bytes depend on the data alone, and a page with ten plots stays small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from recomind.evaluation.presentation import interval, percent

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 40  # margins of a chart, in its units


@dataclass(kw_only=True, slots=True)
class Series:
    """A line: `points` in order of x."""

    name: str
    points: list[tuple[float, float]]
    style: str  # class of the page's style sheet, such as "arm-0"
    dots: bool = False


@dataclass(kw_only=True, slots=True)
class ForestRow:
    """A lift with its interval; a lift that could not be had has the reason as its note."""

    label: str
    lift: dict
    strong: bool = False  # the target


class _Axis:
    """A linear map from data to the chart's units."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        if high <= low:
            low, high = low - 0.5, high + 0.5
        self.low, self.high, self.start, self.end = low, high, start, end

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers inside [low, high], about `count` of them.

    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if high <= low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    diagonal: bool = False,
    size: tuple[int, int] = (460, 270),
) -> str:
    """Lines over common axes; `diagonal` draws where y equals x."""
    points = [point for line in series for point in line.points]
    if not points:
        return '<p class="empty">Nothing was measured.</p>'
    width, height = size
    x = _Axis(*_range([p[0] for p in points]), _LEFT, width - _RIGHT)
    y = _Axis(*(y_range or padded([p[1] for p in points])), height - _BOTTOM, _TOP)
    parts = [_grid(x, y, x_label, y_label)]
    if diagonal:
        low, high = max(x.low, y.low), min(x.high, y.high)
        parts.append(_line(x(low), y(low), x(high), y(high), "diagonal"))
    parts += [_polyline(line, x, y) for line in series]
    return _svg(width, height, title, parts)


def forest_plot(rows: Sequence[ForestRow], *, title: str) -> str:
    """Lifts with their intervals, one row each, around a line at zero."""
    drawn = [row.lift for row in rows if row.lift["value"] is not None]
    if not drawn:
        return '<p class="empty">No lift could be measured.</p>'
    width, row_height, left, right = 760, 27, 190, 170
    height = row_height * len(rows) + 34
    ends = [lift[key] for lift in drawn for key in ("low", "value", "high")]
    # One wild guardrail must not squeeze the others into a point: what lies beyond is cut.
    low, high = padded([min(max(e, -1.0), 1.0) for e in ends if e is not None] + [0.0])
    x = _Axis(low, high, left, width - right)
    bottom = height - 28
    parts = []
    for tick in ticks(low, high):
        parts.append(_line(x(tick), 4, x(tick), bottom, "zero" if tick == 0 else "grid"))
        parts.append(_text(x(tick), bottom + 17, percent(tick).replace(".0 %", " %"), "middle"))
    for index, row in enumerate(rows):
        parts += _forest_row(row, x, 4 + row_height * (index + 0.5), width - right + 12)
    return _svg(width, height, title, parts)


def _forest_row(row: ForestRow, x: _Axis, y: float, text_x: float) -> list[str]:
    lift, style = row.lift, "strong" if row.strong else ""
    parts = [_text(8, y + 4, row.label, "start", style)]
    if lift["value"] is None:
        return [*parts, _text(text_x, y + 4, "not to be had", "start", "muted")]
    parts.append(_text(text_x, y + 4, interval(lift), "start", style))
    clear = lift["low"] is not None and (lift["low"] > 0 or lift["high"] < 0)
    mark = "clear" if clear else "unclear"
    if lift["low"] is not None:
        ends = [x(min(max(lift[key], x.low), x.high)) for key in ("low", "high")]
        parts.append(_line(ends[0], y, ends[1], y, f"whisker {mark}"))
    if x.low <= lift["value"] <= x.high:
        shape = "hollow" if lift["low"] is None else mark
        parts.append(f'<circle cx="{x(lift["value"]):.1f}" cy="{y:.1f}" r="4.5" class="{shape}"/>')
    return parts


def _grid(x: _Axis, y: _Axis, x_label: str, y_label: str) -> str:
    parts = []
    for tick in ticks(y.low, y.high, 4):
        parts.append(_line(x.start, y(tick), x.end, y(tick), "grid"))
        parts.append(_text(x.start - 7, y(tick) + 4, _tick_text(tick), "end"))
    for tick in ticks(x.low, x.high, 5):
        parts.append(_line(x(tick), y.start, x(tick), y.start + 4, "axis"))
        parts.append(_text(x(tick), y.start + 17, _tick_text(tick), "middle"))
    parts.append(_line(x.start, y.start, x.end, y.start, "axis"))
    parts.append(_text((x.start + x.end) / 2, y.start + 34, x_label, "middle"))
    middle = (y.start + y.end) / 2
    parts.append(
        f'<text x="12" y="{middle:.1f}" text-anchor="middle" '
        f'transform="rotate(-90 12 {middle:.1f})">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _polyline(line: Series, x: _Axis, y: _Axis) -> str:
    places = [(x(a), y(min(max(b, y.low), y.high))) for a, b in line.points]
    joined = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    drawn = f'<polyline points="{joined}" class="line {line.style}"/>'
    if line.dots or len(places) == 1:
        drawn += "".join(
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.2" class="dot {line.style}"/>'
            for a, b in places
        )
    return drawn


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    name = escape(title)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{name}">'
        f"<title>{name}</title>{''.join(parts)}</svg>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'


def _text(x: float, y: float, content: str, anchor: str, style: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}">'
        f"{escape(content)}</text>"
    )


def _tick_text(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if abs(value) >= 1e4 else f"{value:g}"


def _range(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def padded(values: Sequence[float]) -> tuple[float, float]:
    """The range of `values` with a little room on both sides."""
    low, high = _range(values)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    return low - room, high + room

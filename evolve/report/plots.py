"""Curves as SVG pictures, and groups of runs as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from evolve.display import as_cell, clean
from evolve.population.curves import CONFIDENCE, RunGroup

_WIDTH, _HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 20, 30, 40
_TICKS = 4
_COLOURS = ("#2563a8", "#b4432f", "#2f855a", "#8a4fb0", "#b7791f", "#4a5568")
_OPEN = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
    'font-family="sans-serif" font-size="12" fill="#555">'
)

_Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class CurveShape:
    """A line in a plot.

    Attributes:
        points: Pairs of count and value.
        low: The same for the lower end of its band; empty without a band.
        high: For the upper end.
    """

    points: _Points
    low: _Points = ()
    high: _Points = ()


def draw_steps(points: _Points, *, across: str, up: str) -> str:
    """Draws values that hold until the next point.

    Args:
        points: Pairs of count and value; counts do not fall.
        across: Name of the count.
        up: Name of the value.

    Returns:
        An SVG element; empty without two different counts.
    """
    if not points or points[0][0] == points[-1][0]:
        return ""
    stairs = [points[0]]
    for (_, before), (count, value) in pairwise(points):
        stairs += [(count, before), (count, value)]
    panel = "".join(_draw_panel([CurveShape(stairs)], across, up))
    return f"{_OPEN.format(width=_WIDTH, height=_HEIGHT)}{panel}</svg>"


def draw_comparison(groups: Sequence[RunGroup]) -> str:
    """Draws a panel for each axis, medians as lines and intervals as bands, as SVG."""
    axes = list(groups[0].curves)
    top = _HEIGHT * len(axes)
    height = top + 20 * len(groups) + 30
    parts = [
        _OPEN.format(width=_WIDTH, height=height),
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for number, axis in enumerate(axes):
        shapes = []
        for curve in (group.curves[axis] for group in groups):
            lines = (curve.median, curve.low, curve.high)
            counts = curve.counts.tolist()
            pairs = (list(zip(counts, line.tolist(), strict=True)) for line in lines)
            shapes.append(CurveShape(*pairs))
        parts.append(f'<g transform="translate(0 {number * _HEIGHT})">')
        parts += [*_draw_panel(shapes, axis, "objective"), "</g>"]
    for number, group in enumerate(groups):
        y = top + 20 * number
        parts.append(
            f'<rect x="{_LEFT}" y="{y}" width="12" height="12" fill="{_colour(number)}"/>'
            f'<text x="{_LEFT + 18}" y="{y + 10}">{escape(clean(group.name))}, '
            f"{len(group.traces)} runs</text>"
        )
    parts.append(
        f'<text x="{_LEFT}" y="{height - 8}">medians and {CONFIDENCE:.0%} bootstrap intervals of '
        "the median</text></svg>\n"
    )
    return "".join(parts)


def format_csv(groups: Sequence[RunGroup]) -> str:
    """Returns every curve as lines of CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["axis", "count", "group", "runs", "median", "low", "high"])
    for axis in groups[0].curves:
        for group in groups:
            curve = group.curves[axis]
            for at, count in enumerate(curve.counts.tolist()):
                ends = (curve.median[at], curve.low[at], curve.high[at])
                numbers = [repr(float(value)) for value in ends]
                row = [axis, repr(count), group.name, len(group.traces), *numbers]
                writer.writerow(map(as_cell, row))
    return stream.getvalue()


def _draw_panel(shapes: Sequence[CurveShape], across: str, up: str) -> list[str]:
    every = [point for one in shapes for line in (one.points, one.low, one.high) for point in line]
    start, end = min(every)[0], max(every)[0]
    low, high = min(value for _, value in every), max(value for _, value in every)
    low, span = (low, high - low) if high > low else (low - 0.5, 1.0)
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def path(points: _Points) -> str:
        return " L ".join(
            f"{_LEFT + (count - start) / (end - start) * width:.1f} "
            f"{_TOP + (low + span - value) / span * height:.1f}"
            for count, value in points
        )

    middle = f"{_LEFT + width / 2:.0f}"
    parts = [
        f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{across}</text>',
        f'<text x="4" y="16">{up}</text>',
    ]
    for tick in range(_TICKS + 1):
        x, y = _LEFT + width * tick / _TICKS, _TOP + height * tick / _TICKS
        parts.append(
            f'<path d="M {_LEFT} {y:.1f} h {width}" stroke="#e4e4e0"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{low + span * (1 - tick / _TICKS):.6g}</text>"
            f'<text x="{x:.1f}" y="{_TOP + height + 16}" text-anchor="middle">'
            f"{start + (end - start) * tick / _TICKS:.6g}</text>"
        )
    for number, shape in enumerate(shapes):
        if shape.low:
            band = f"M {path(shape.low)} L {path(list(reversed(shape.high)))} Z"
            parts.append(f'<path d="{band}" fill="{_colour(number)}" opacity="0.15"/>')
        line = f'd="M {path(shape.points)}" fill="none" stroke="{_colour(number)}"'
        parts.append(f'<path {line} stroke-width="2"/>')
    return parts


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]

"""Groups of runs side by side: as tables and a plot on the terminal, as CSV, as a picture."""

from __future__ import annotations

import csv
import io
from html import escape
from typing import TYPE_CHECKING

from evolve.display import as_cell, clean
from evolve.population.comparison import AXES, CONFIDENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from evolve.population.comparison import Group

_ROWS = 8
_PLOT_WIDTH, _PLOT_HEIGHT = 64, 14
_MARKS = "ox+*#@%&=~"
_COLOURS = ("#2563a8", "#b4432f", "#2f855a", "#8a4fb0", "#b7791f", "#4a5568")
_PANEL_WIDTH, _PANEL_HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 16, 30, 40


def list_axes(groups: Sequence[Group]) -> list[str]:
    """Returns the axes on which anything was spent."""
    return [axis for axis in AXES if axis in groups[0].curves]


def format_table(groups: Sequence[Group], axis: str) -> str:
    """Returns medians and intervals of every group at a few counts of an axis."""
    head = [axis, *(f"{group.name} ({len(group.traces)})" for group in groups)]
    counts = groups[0].curves[axis].counts
    chosen = [round(step * (len(counts) - 1) / _ROWS) for step in range(_ROWS + 1)]
    rows = [head]
    for at in chosen:
        cells = [f"{counts[at]:.6g}"]
        for group in groups:
            curve = group.curves[axis]
            interval = f"[{curve.low[at]:.6g}, {curve.high[at]:.6g}]"
            cells.append(f"{curve.median[at]:.8g} {interval if len(group.traces) > 1 else ''}")
        rows.append(cells)
    widths = [max(len(row[at]) for row in rows) for at in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def draw_text(groups: Sequence[Group], axis: str) -> str:
    """Draws the medians with letters; where groups meet, the first one is seen."""
    low, high = _span([group.curves[axis].median for group in groups])
    canvas = [[" "] * _PLOT_WIDTH for _ in range(_PLOT_HEIGHT)]
    for number, group in reversed(list(enumerate(groups))):
        median = group.curves[axis].median
        for column in range(_PLOT_WIDTH):
            value = median[round(column * (len(median) - 1) / (_PLOT_WIDTH - 1))]
            row = round((high - value) / (high - low) * (_PLOT_HEIGHT - 1))
            canvas[row][column] = _MARKS[number % len(_MARKS)]
    labels = {0: f"{high:.6g}", _PLOT_HEIGHT - 1: f"{low:.6g}"}
    width = max(map(len, labels.values()))
    lines = [f"{labels.get(row, ''):>{width}} |{''.join(line)}" for row, line in enumerate(canvas)]
    end = f"{groups[0].curves[axis].counts[-1]:.6g} {axis}"
    lines.append(" " * width + " +" + "-" * _PLOT_WIDTH)
    lines.append(" " * width + "  0" + end.rjust(_PLOT_WIDTH - 1))
    lines += [f"  {_MARKS[at % len(_MARKS)]} {group.name}" for at, group in enumerate(groups)]
    return "\n".join(lines)


def format_csv(groups: Sequence[Group]) -> str:
    """Returns every curve as lines of CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["axis", "count", "group", "runs", "median", "low", "high"])
    for axis in list_axes(groups):
        for group in groups:
            curve = group.curves[axis]
            for at, count in enumerate(curve.counts.tolist()):
                ends = (curve.median[at], curve.low[at], curve.high[at])
                numbers = [repr(float(value)) for value in ends]
                row = [axis, repr(count), group.name, len(group.traces), *numbers]
                writer.writerow(map(as_cell, row))
    return stream.getvalue()


def draw_picture(groups: Sequence[Group]) -> str:
    """Draws a panel for each axis, medians as lines and intervals as bands, as SVG."""
    axes = list_axes(groups)
    legend = 20 * len(groups) + 30
    height = _PANEL_HEIGHT * len(axes) + legend
    size = f'viewBox="0 0 {_PANEL_WIDTH} {height}" width="{_PANEL_WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" fill="#444">',
        '<rect width="100%" height="100%" fill="#fff"/><g font-size="12">',
    ]
    for number, axis in enumerate(axes):
        parts.append(f'<g transform="translate(0 {number * _PANEL_HEIGHT})">')
        parts += _draw_panel(groups, axis)
        parts.append("</g>")
    top = _PANEL_HEIGHT * len(axes)
    for number, group in enumerate(groups):
        y = top + 20 * number
        parts.append(
            f'<rect x="{_LEFT}" y="{y}" width="12" height="12" fill="{_colour(number)}"/>'
            f'<text x="{_LEFT + 18}" y="{y + 10}">{escape(clean(group.name))}, '
            f"{len(group.traces)} runs</text>"
        )
    parts.append(
        f'<text x="{_LEFT}" y="{height - 8}">medians and {CONFIDENCE:.0%} bootstrap intervals of '
        "the median</text></g></svg>\n"
    )
    return "".join(parts)


def _draw_panel(groups: Sequence[Group], axis: str) -> list[str]:
    curves = [group.curves[axis] for group in groups]
    low, high = _span([part for curve in curves for part in (curve.low, curve.high)])
    counts = curves[0].counts
    width, height = _PANEL_WIDTH - _LEFT - _RIGHT, _PANEL_HEIGHT - _TOP - _BOTTOM
    xs = _LEFT + counts / counts[-1] * width

    def path(values: NDArray[np.float64], *, backwards: bool = False) -> str:
        ys = _TOP + (high - values) / (high - low) * height
        points = [f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True)]
        return " L ".join(reversed(points) if backwards else points)

    parts = []
    for tick in range(5):
        y = _TOP + height * tick / 4
        x = _LEFT + width * tick / 4
        parts.append(
            f'<path d="M {_LEFT} {y:.1f} h {width}" stroke="#e4e4e0"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{high - (high - low) * tick / 4:.6g}</text>"
            f'<text x="{x:.1f}" y="{_TOP + height + 16}" text-anchor="middle">'
            f"{counts[-1] * tick / 4:.6g}</text>"
        )
    for number, curve in enumerate(curves):
        colour = _colour(number)
        band = f"M {path(curve.low)} L {path(curve.high, backwards=True)} Z"
        parts.append(f'<path d="{band}" fill="{colour}" opacity="0.15"/>')
        parts.append(f'<path d="M {path(curve.median)}" fill="none" stroke="{colour}"/>')
    middle = _LEFT + width / 2
    return [
        *parts,
        f'<text x="{middle:.0f}" y="{_PANEL_HEIGHT - 6}" text-anchor="middle">{axis}</text>',
        '<text x="4" y="16">objective</text>',
    ]


def _span(curves: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    low = min(float(curve.min()) for curve in curves)
    high = max(float(curve.max()) for curve in curves)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]

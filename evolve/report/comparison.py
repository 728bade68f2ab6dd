"""Groups of runs side by side, as an SVG picture and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from html import escape

from evolve.display import as_cell, clean
from evolve.population.curves import CONFIDENCE, RunGroup
from evolve.report.figures import COLOURS, HEIGHT, WIDTH, CurveShape, draw_panel, wrap

_LEFT = 90


def draw_comparison(groups: Sequence[RunGroup]) -> str:
    """Draws a panel for each axis, medians as lines and intervals as bands, as SVG."""
    axes = list(groups[0].curves)
    top = HEIGHT * len(axes)
    height = top + 20 * len(groups) + 30
    parts: list[str] = []
    for number, axis in enumerate(axes):
        shapes = []
        for curve in (group.curves[axis] for group in groups):
            lines = (curve.median, curve.low, curve.high)
            counts = curve.counts.tolist()
            pairs = (list(zip(counts, line.tolist(), strict=True)) for line in lines)
            shapes.append(CurveShape(*pairs))
        parts.append(f'<g transform="translate(0 {number * HEIGHT})">')
        parts += [*draw_panel(shapes, axis, "objective"), "</g>"]
    for number, group in enumerate(groups):
        y = top + 20 * number
        parts.append(
            f'<rect class="c{number % COLOURS}" x="{_LEFT}" y="{y}" width="12" height="12"/>'
            f'<text x="{_LEFT + 18}" y="{y + 10}">{escape(clean(group.name))}, '
            f"{len(group.traces)} runs</text>"
        )
    parts.append(
        f'<text x="{_LEFT}" y="{height - 8}">medians and {CONFIDENCE:.0%} bootstrap intervals of '
        "the median</text>"
    )
    return wrap("".join(parts), WIDTH, height)


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

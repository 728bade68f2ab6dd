"""The figures of a run: as SVG, coloured by the page's style sheet, and in characters.

A terminal gets a curve in Braille dots, and archives as heat maps.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from evolve.archive import Elite
from evolve.archive.archives import Archive, share_of
from evolve.display import clean, one_line, show_number
from evolve.problem import Measure
from evolve.records import AttemptKey, Direction
from evolve.report.history import AttemptRow
from evolve.search.curves import AXES, CONFIDENCE, CurvePoint, RunGroup

WIDTH, HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 20, 30, 40
_TICKS = 5
_LINE = 14  # height of a line of text
_CELL = 26
# Best programs whose ancestors the tree shows.
_LEAVES = 24
# What a picture looks like outside of a page: that of the style sheet, in daylight.
STYLE = (
    "<style>text{fill:#555;font:12px sans-serif}.grid{stroke:#e4e4e0}.line{fill:none;"
    "stroke-width:2}.band{opacity:.15;stroke:none}.known{stroke:#888;stroke-dasharray:5 4}"
    ".edge{stroke:#bbb;fill:none}.path{stroke:#2563a8;stroke-width:2;fill:none}.node{fill:#999}"
    ".best{fill:#2563a8}.cell{fill:#2563a8}.empty{fill:#f1f1ee}.mark{stroke:#b4432f;"
    "stroke-width:2}.dot{fill:#2563a8}.c0{stroke:#2563a8;fill:#2563a8}.c1{stroke:#b4432f;fill:"
    "#b4432f}.c2{stroke:#2f855a;fill:#2f855a}.c3{stroke:#8a4fb0;fill:#8a4fb0}.c4{stroke:#b7791f;"
    "fill:#b7791f}.c5{stroke:#4a5568;fill:#4a5568}.line{fill:none}</style>"
)
COLOURS = 6

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


def draw_curve(points: Sequence[CurvePoint], axis: str, references: Mapping[str, float]) -> str:
    """Draws the champion's objective against what was spent.

    Args:
        points: Of the run, in order.
        axis: One of `AXES`.
        references: Values to compare with, by name; far ones are left to the text.

    Returns:
        An SVG element; empty without two different counts.
    """
    pairs = [
        (float(getattr(point, AXES[axis])), point.champion.objective)
        for point in points
        if point.champion is not None
    ]
    if not pairs or pairs[0][0] == pairs[-1][0]:
        return ""
    stairs = [pairs[0]]
    for (_, before), (count, value) in pairwise(pairs):
        stairs += [(count, before), (count, value)]
    panel = draw_panel([CurveShape(stairs)], axis, "objective", _near(stairs, references))
    return wrap("".join(panel), WIDTH, HEIGHT)


def draw_archive(elites: Iterable[Elite], axes: Sequence[Measure], direction: Direction) -> str:
    """Draws the best objective in each cell of the first two measures; stronger is better.

    Returns:
        An SVG element; empty without measures or elites.
    """
    if not axes:
        return ""
    across, up = axes[0], axes[1] if len(axes) > 1 else None

    def place(elite: Elite) -> tuple[int, int]:
        return _bin(across, elite.measures[0]), _bin(up, elite.measures[1]) if up else 0

    best = {
        place(one): one for one in sorted(elites, key=lambda one: direction.sign * one.objective)
    }
    if not best:
        return ""
    ranked = sorted(best, key=lambda cell: direction.sign * best[cell].objective)
    strength = {cell: (at + 1) / len(ranked) for at, cell in enumerate(ranked)}
    columns, rows = across.cells, up.cells if up else 1
    parts = [_rectangle((_LEFT, _TOP), (columns * _CELL, rows * _CELL), "empty")]
    for (column, row), elite in best.items():
        x, y = _LEFT + column * _CELL, _TOP + (rows - 1 - row) * _CELL
        title = f"{elite.key}: {show_number(elite.objective)}"
        opacity = f' fill-opacity="{0.15 + 0.85 * strength[column, row]:.2f}"'
        marked = " mark" if (column, row) == ranked[-1] else ""
        parts.append(
            _rectangle((x, y), (_CELL - 1, _CELL - 1), f"cell{marked}", more=opacity, title=title)
        )
    bottom = _TOP + rows * _CELL
    ends = (show_number(across.low), show_number(across.high))
    parts += [
        _text(_LEFT, bottom + 16, ends[0]),
        _text(_LEFT + columns * _CELL, bottom + 16, ends[1], "end"),
        _text(_LEFT + columns * _CELL / 2, bottom + 32, across.name, "middle"),
    ]
    if up is not None:
        parts += [
            _text(4, 16, up.name),
            _text(_LEFT - 6, _TOP + 12, show_number(up.high), "end"),
            _text(_LEFT - 6, bottom, show_number(up.low), "end"),
        ]
    return wrap("".join(parts), _LEFT + columns * _CELL + 60, bottom + 44)


def draw_lineage(
    rows: Sequence[AttemptRow], champion: AttemptKey, direction: Direction, link: str
) -> str:
    """Draws the family of the best programs: evaluations across, objective up.

    Args:
        rows: All attempts.
        champion: Its ancestors are drawn as a path.
        direction: Of the objective.
        link: Where a node leads to: a pattern with `{key}`.

    Returns:
        An SVG element; empty where the champion is the starting program.
    """
    known = {row.attempt.key: row for row in rows if row.attempt.objective is not None}
    ranked = sorted(
        known.values(), key=lambda row: -direction.sign * (row.attempt.objective or 0.0)
    )
    line = set(_ancestors(known, champion))
    keys = {key for row in ranked[:_LEAVES] for key in _ancestors(known, row.attempt.key)} | line
    if len(line) < 2:
        return ""
    # One program far below the others would press these into a line.
    reached = sorted({known[key].attempt.objective or 0.0 for key in keys})
    scale = {objective: rank for rank, objective in enumerate(reached)}
    widest = max(known[key].evaluations for key in keys) or 1
    height = HEIGHT - _TOP - _BOTTOM

    def place(key: AttemptKey) -> tuple[float, float]:
        row = known[key]
        share = scale[row.attempt.objective or 0.0] / max(1, len(scale) - 1)
        x = _LEFT + row.evaluations / widest * (WIDTH - _LEFT - _RIGHT - 10)
        return x, _TOP + height * (1 - share)

    edges, nodes = [], []
    for key in sorted(keys):
        (x, y), parent = place(key), known[key].attempt.parent
        if parent in keys:
            ax, ay = place(parent)
            kind = "path" if key in line else "edge"
            bend = f"M{ax:.1f} {ay:.1f} C{(ax + x) / 2:.1f} {ay:.1f} {(ax + x) / 2:.1f} {y:.1f}"
            edges.append(f'<path class="{kind}" d="{bend} {x:.1f} {y:.1f}"/>')
        node = _draw_node(known[key], (x, y), leads=key in line)
        # A report has a place for the ancestors of the champion alone.
        leads = key in line or not link.startswith("#")
        nodes.append(f'<a href="{escape(link.format(key=key))}">{node}</a>' if leads else node)
    names = [
        _text(4, 16, "objective, by rank"),
        _text(WIDTH / 2, HEIGHT - 6, "evaluations", "middle"),
    ]
    return wrap("".join([*edges, *nodes, *names]), WIDTH, HEIGHT)


def _draw_node(row: AttemptRow, place: tuple[float, float], *, leads: bool) -> str:
    objective = show_number(row.attempt.objective)
    title = escape(one_line(f"{row.attempt.key} by {row.source}: {objective}"))
    kind, size = ("best", 5) if leads else ("node", 3.5)
    return (
        f'<circle class="{kind}" cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="{size}">'
        f"<title>{title}</title></circle>"
    )


def draw_front(points: _Points, names: tuple[str, str]) -> str:
    """Draws the programs that nothing dominates by two objectives; empty without any."""
    if not points:
        return ""
    panel = draw_panel([], *names, {}, points)
    return wrap("".join(panel), WIDTH, HEIGHT)


def wrap(parts: str, width: float, height: float) -> str:
    """Returns an SVG element of the parts of a picture."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'role="img">{parts}</svg>'
    )


def standalone(svg: str) -> str:
    """Returns a picture as a file of its own, in daylight whatever shows it."""
    head, rest = svg.split(">", 1)
    return f'{head}>{STYLE}<rect width="100%" height="100%" fill="#fff"/>{rest}\n'


def draw_panel(
    shapes: Sequence[CurveShape],
    across: str,
    up: str,
    references: Mapping[str, float] | None = None,
    dots: _Points = (),
) -> list[str]:
    """Returns the parts of a picture with axes, curves, dots, and levels to compare with."""
    every = [point for one in shapes for line in (one.points, one.low, one.high) for point in line]
    every += dots
    start, end = min(every)[0], max(every)[0]
    levels = [value for _, value in every] + list((references or {}).values())
    low, high = min(levels), max(levels)
    low, span = (low, high - low) if high > low else (low - 0.5, 1.0)
    start, length = (start, end - start) if end > start else (start - 0.5, 1.0)
    width, height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def place(count: float, value: float) -> tuple[float, float]:
        x = _LEFT + (count - start) / length * width
        return x, _TOP + (low + span - value) / span * height

    def path(points: _Points) -> str:
        return " L ".join("{:.1f} {:.1f}".format(*place(*point)) for point in points)

    parts = [_text(_LEFT + width / 2, HEIGHT - 6, across, "middle"), _text(4, 16, up)]
    parts += _draw_ticks((start, length), (low, span))
    heights = {name: place(start, value)[1] for name, value in (references or {}).items()}
    parts += _draw_references(heights, width)
    for number, shape in enumerate(shapes):
        colour = f"c{number % COLOURS}"
        if shape.low:
            band = f"M {path(shape.low)} L {path(list(reversed(shape.high)))} Z"
            parts.append(f'<path class="band {colour}" d="{band}"/>')
        parts.append(f'<path class="line {colour}" d="M {path(shape.points)}"/>')
    for point in dots:
        x, y = place(*point)
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
    return parts


def _draw_ticks(across: tuple[float, float], up: tuple[float, float]) -> Iterator[str]:
    """Yields the grid and its numbers; both ranges are a start and a length."""
    width, height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    for value in _round_numbers(*up):
        y = _TOP + height * (1 - (value - up[0]) / up[1])
        yield f'<path class="grid" d="M {_LEFT} {y:.1f} h {width}"/>'
        yield _text(_LEFT - 6, y + 4, f"{value:.6g}", "end")
    for value in _round_numbers(*across):
        x = _LEFT + width * (value - across[0]) / across[1]
        yield _text(x, _TOP + height + 16, f"{value:.6g}", "middle")


def _draw_references(heights: Mapping[str, float], width: float) -> Iterator[str]:
    """Yields the lines of values to compare with, and their names."""
    written = math.inf
    for name, y in sorted(heights.items(), key=lambda one: -one[1]):
        yield f'<path class="known" d="M {_LEFT} {y:.1f} h {width}"/>'
        # Two values that are close share a line of text, the higher one to the right.
        is_apart = written - y > _LINE
        written = y if is_apart else written
        yield _text(_LEFT + 4 if is_apart else WIDTH / 2, written - 4, name)


def _round_numbers(start: float, length: float) -> list[float]:
    """Returns the multiples of 1, 2 or 5 times a power of ten in a range; two to six of them."""
    power = 10.0 ** math.floor(math.log10(length / _TICKS))
    step = next(power * digit for digit in (1, 2, 5, 10) if length <= _TICKS * power * digit)
    first, last = math.ceil(start / step), math.floor((start + length) / step)
    return [number * step for number in range(first, last + 1)]


def _near(stairs: _Points, references: Mapping[str, float]) -> dict[str, float]:
    """Returns the references that leave at least a quarter of the height to the curve."""
    low, high = min(value for _, value in stairs), max(value for _, value in stairs)
    room = 3.0 * (high - low)
    return {name: at for name, at in references.items() if low - room <= at <= high + room}


def _ancestors(known: Mapping[AttemptKey, AttemptRow], key: AttemptKey) -> Iterable[AttemptKey]:
    found: AttemptKey | None = key
    while found is not None and found in known:
        yield found
        found = known[found].attempt.parent


def _bin(axis: Measure, value: float) -> int:
    return min(int(share_of(axis, value) * axis.cells), axis.cells - 1)


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(clean(one_line(text)))}'
        "</text>"
    )


def _rectangle(
    place: tuple[float, float],
    size: tuple[float, float],
    kind: str,
    *,
    more: str = "",
    title: str = "",
) -> str:
    (x, y), (width, height) = place, size
    shown = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"{more}>'
        f"{shown}</rect>"
    )


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


# Bits of the dots of a Braille character: by column, from the top.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_BLANK = 0x2800
_MOST_BINS = 24
EMPTY = -1
"""Level of a place in a heat map that no elite fills."""
LEVELS = 4
"""Levels of a heat map below the best, from 0."""
# By level, the best last: no colour is needed to tell them apart.
_SHADES = "░▒▓█◆"
_EMPTY_SHADE = "·"


def draw_braille(
    points: Sequence[tuple[float, float]],
    *,
    width: int,
    height: int,
    bounds: tuple[float, float],
    end: float,
    level: float | None = None,
) -> list[str]:
    """Returns a step function as lines of Braille characters.

    Args:
        points: Where the value changes and what it is from there on, by place.
        width: Characters in a line.
        height: Lines.
        bounds: Values at the bottom and the top; others are drawn at the edge.
        end: Place at the right edge; the left one is 0.
        level: A value that is drawn as a dotted line.
    """
    columns, rows = 2 * width, 4 * height
    bits = np.zeros((height, width), np.int64)

    def mark(column: int, row: int) -> None:
        bits[row // 4, column // 2] |= _DOTS[column % 2][row % 4]

    if level is not None:
        for column in range(0, columns, 4):
            mark(column, _row_of(level, bounds, rows))
    before: int | None = None
    for column in range(columns):
        at = bisect_right(points, (column + 1) * end / columns, key=itemgetter(0)) - 1
        if at < 0:
            continue
        row = _row_of(points[at][1], bounds, rows)
        first, last = (row, row) if before is None else (min(row, before), max(row, before))
        for dot in range(first, last + 1):
            mark(column, dot)
        before = row
    return ["".join(chr(_BLANK + one) for one in line) for line in bits]


def _row_of(value: float, bounds: tuple[float, float], rows: int) -> int:
    low, high = bounds
    share = (value - low) / (high - low) if high > low else 0.5
    return min(max(round((1.0 - share) * (rows - 1)), 0), rows - 1)


def map_objectives(archive: Archive, across: int, up: int | None) -> NDArray[np.float64]:
    """Returns the best objective by place on two measures.

    Args:
        archive: Its cells divide the measures.
        across: Place of the measure on the horizontal axis among the archive's measures.
        up: The same for the vertical axis; None for a single row.

    Returns:
        An array of shape `(rows, columns)`, the top row first; NaN where there is no elite.
    """
    shape = (_count_bins(archive, up), _count_bins(archive, across))
    best = np.full(shape, -math.inf)
    centers = archive.space.centers_of(archive.cells)
    columns = (centers[:, across] * shape[1]).astype(np.int64)
    rows = np.zeros_like(columns) if up is None else (centers[:, up] * shape[0]).astype(np.int64)
    sign = archive.direction.sign
    np.maximum.at(best, (shape[0] - 1 - rows, columns), sign * archive.objectives)
    return np.where(np.isinf(best), np.nan, sign * best)


def _count_bins(archive: Archive, axis: int | None) -> int:
    if axis is None:
        return 1
    return min(archive.space.axes[axis].cells, _MOST_BINS)


def find_levels(
    maps: Sequence[NDArray[np.float64]], sign: float
) -> list[tuple[tuple[int, ...], ...]]:
    """Returns heat maps of objectives as levels, by rank over all maps; the best is `LEVELS`.

    Args:
        maps: Objectives, NaN where there is none.
        sign: +1 where larger objectives are better, else -1.
    """
    known = np.sort(np.concatenate([sign * one[~np.isnan(one)] for one in maps]))
    found = []
    for one in maps:
        ranks = np.searchsorted(known, sign * one)
        levels = np.minimum(ranks * LEVELS // max(len(known), 1), LEVELS - 1)
        if len(known):
            levels[sign * one == known[-1]] = LEVELS
        levels[np.isnan(one)] = EMPTY
        found.append(tuple(map(tuple, levels.tolist())))
    return found


def shrink(levels: Sequence[Sequence[int]], rows: int, columns: int) -> tuple[tuple[int, ...], ...]:
    """Returns a heat map that fits; a place that stands for several has the best of them."""
    height, width = math.ceil(len(levels) / rows), math.ceil(len(levels[0]) / columns)
    return tuple(
        tuple(
            max(max(line[left : left + width]) for line in levels[top : top + height])
            for left in range(0, len(levels[0]), width)
        )
        for top in range(0, len(levels), height)
    )


def show_place(level: int, width: int) -> str:
    """Returns a place of a heat map in characters."""
    return _EMPTY_SHADE.ljust(width) if level == EMPTY else _SHADES[level] * width


def show_map(levels: Sequence[Sequence[int]]) -> str:
    """Returns a heat map as lines of text."""
    return "\n".join("".join(show_place(level, 2) for level in line) for line in levels)

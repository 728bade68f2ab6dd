"""Pictures in characters: a curve in Braille dots, and archives as heat maps."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from evolve.archive.archives import Archive

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


def draw_curve(
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

"""Scores points by their smallest triangle, relative to the area of their convex hull."""

from __future__ import annotations

from fractions import Fraction

import drawing
from exact import format_exactly, round_down, scale_rows
from points import (
    describe_points,
    double_hull_area,
    find_hull_share,
    find_roundness,
    find_smallest_triangle,
)

from evolve.scoring import Infeasible, ProgramHandle, Score, as_floats


def evaluate(program: ProgramHandle, *, count: int) -> Score:
    """Scores `place(count)`, which returns one row `(x, y)` for each point."""
    points = as_floats(program.call("place", count), (count, 2), where="place", magnitude=1e6)
    rows, _ = scale_rows(points.tolist())
    hull = double_hull_area(rows)
    if hull == 0:
        raise Infeasible("place: expected points that span an area, got points on one line")
    smallest, corners = find_smallest_triangle(rows)
    ratio = Fraction(smallest, hull)
    return Score(
        round_down(ratio),
        measures={"hull_share": find_hull_share(rows), "roundness": find_roundness(points)},
        artifacts={
            "certified": format_exactly(ratio, up=False),
            "smallest_triangle": "points " + ", ".join(map(str, corners)),
            "points": describe_points(points),
        },
    )


def draw(program: ProgramHandle, *, count: int) -> Score:
    """Scores points and draws them."""
    score = evaluate(program, count=count)
    points = as_floats(program.call("place", count), (count, 2), where="place", magnitude=1e6)
    return drawing.draw_points(score, points.tolist())

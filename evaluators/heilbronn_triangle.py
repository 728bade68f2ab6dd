"""Scores points in a triangle by their smallest triangle, relative to the area of the whole."""

from __future__ import annotations

from fractions import Fraction

import drawing
from exact import format_exactly, round_down, scale_rows, sqrt_down, sqrt_up
from points import Point, describe_points, find_hull_share, find_smallest_triangle

from evolve.scoring import Infeasible, ProgramHandle, Score, as_floats

MAX_EXCESS = Fraction(1, 10**6)


def evaluate(program: ProgramHandle, *, count: int, triangle: str) -> Score:
    """Scores `place(count)`, which returns one row `(x, y)` for each point.

    `triangle` is `equilateral`, with the corners (0, 0), (1, 0), (1/2, sqrt(3)/2), or `right`,
    with the corners (0, 0), (1, 0), (0, 1); what holds in one holds in the other.
    """
    points = as_floats(program.call("place", count), (count, 2), where="place", magnitude=2.0)
    rows, bits = scale_rows(points.tolist())
    smallest, corners = find_smallest_triangle(rows)
    # Squares of areas: that of the equilateral triangle is 3/16, which is a fraction.
    whole = Fraction(3, 4) if triangle == "equilateral" else Fraction(1)
    side, is_inside = find_side(rows, bits, triangle)
    if side > 1 + MAX_EXCESS:
        raise Infeasible(
            f"place: expected points inside the triangle, got some that need a side of "
            f"{float(side):.9g}"
        )
    if side == 0:
        raise Infeasible("place: expected different points, got the same one only")
    area = Fraction(smallest, 1 << (2 * bits))
    container = sqrt_up(whole) if triangle == "equilateral" else Fraction(1)
    ratio = area / container
    rescaled = ratio / side**2
    certified = ratio if is_inside else rescaled
    return Score(
        round_down(certified),
        metrics={"rescaled": round_down(rescaled)},
        measures={
            "hull_share": find_hull_share(rows),
            "height": float(points[:, 1].mean()),
        },
        artifacts={
            "certified": format_exactly(certified, up=False),
            "smallest_triangle": "points " + ", ".join(map(str, corners)),
            "points": describe_points(points),
        },
    )


def draw(program: ProgramHandle, *, count: int, triangle: str) -> Score:
    """Scores points and draws them in their triangle."""
    score = evaluate(program, count=count, triangle=triangle)
    points = as_floats(program.call("place", count), (count, 2), where="place", magnitude=2.0)
    top = (0.5, 0.75**0.5) if triangle == "equilateral" else (0.0, 1.0)
    outline = drawing.polygon([(0.0, 0.0), (1.0, 0.0), top])
    parts = [outline, *drawing.dots(points.tolist(), 0.01)]
    return drawing.add_picture(score, parts, (0.0, 0.0), (1.0, top[1]))


def find_side(rows: list[Point], bits: int, triangle: str) -> tuple[Fraction, bool]:
    """Returns the side of the smallest triangle of this position around all points, rounded up.

    Also tells whether all points lie in the triangle of side 1 exactly.
    """
    one = 1 << bits
    if triangle == "right":
        is_inside = all(x >= 0 and y >= 0 and x + y <= one for x, y in rows)
        low_x, low_y = (min(row[axis] for row in rows) for axis in (0, 1))
        return Fraction(max(x + y for x, y in rows) - low_x - low_y, one), is_inside
    if triangle != "equilateral":
        raise ValueError(f"triangle: expected `equilateral` or `right`, got {triangle!r}")
    is_inside = all(
        y >= 0 and x >= 0 and x <= one and y * y <= 3 * x * x and y * y <= 3 * (one - x) ** 2
        for x, y in rows
    )
    # Along the three directions (0, -2), (sqrt 3, 1), (-sqrt 3, 1) the triangle of side s
    # reaches sqrt(3) s in sum; products with the root are enclosed.
    low, high = sqrt_down(Fraction(3)), sqrt_up(Fraction(3))
    reach = [
        max(Fraction(-2 * y) for _, y in rows),
        max((high if x > 0 else low) * x + y for x, y in rows),
        max((low if x > 0 else high) * -x + y for x, y in rows),
    ]
    return sum(reach, Fraction(0)) / low / one, is_inside

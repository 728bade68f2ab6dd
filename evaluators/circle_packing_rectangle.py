"""Scores packings of circles into a rectangle of perimeter 4 by their certified sum of radii."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import drawing
import numpy as np
from circles import describe_circles, shrink_circles
from exact import format_exactly, round_down, round_up

from evolve.scoring import Infeasible, ProgramHandle, Score, as_floats

if TYPE_CHECKING:
    from numpy.typing import NDArray

PERIMETER = Fraction(4)
MAX_EXCESS = Fraction(1, 10**6)


def evaluate(program: ProgramHandle, *, count: int) -> Score:
    """Scores `pack(count)`, which returns one row `(x, y, radius)` for each circle."""
    circles = as_floats(program.call("pack", count), (count, 3), where="pack", magnitude=2.0)
    total, rescaled, shrinking = certify(circles)
    x, y, radii = circles.T
    width, height = np.ptp([x - radii, x + radii]), np.ptp([y - radii, y + radii])
    return Score(
        round_down(total),
        metrics={
            "rescaled": round_down(rescaled),
            "shrinking": round_up(shrinking),
            "width": float(width),
            "height": float(height),
        },
        measures={
            "radius_spread": float(radii.std() / radii.mean()),
            "flatness": float(min(width, height) / max(width, height)),
        },
        artifacts={
            "certified": format_exactly(total, up=False),
            "circles": describe_circles(circles),
        },
    )


def draw(program: ProgramHandle, *, count: int) -> Score:
    """Scores a packing and draws it in its bounding box."""
    score = evaluate(program, count=count)
    circles = as_floats(program.call("pack", count), (count, 3), where="pack", magnitude=2.0)
    x, y, radii = circles.T
    low = float((x - radii).min()), float((y - radii).min())
    high = float((x + radii).max()), float((y + radii).max())
    box = drawing.polygon([low, (high[0], low[1]), high, (low[0], high[1])])
    discs = [drawing.circle(*row) for row in circles.tolist()]
    return drawing.add_picture(score, [box, *discs], low, high)


def certify(circles: NDArray[np.float64]) -> tuple[Fraction, Fraction, Fraction]:
    """Finds exactly what a packing is worth.

    The rectangle is the circles' bounding box, whatever a program says about it. A packing
    without overlap whose box has a perimeter of at most 4 counts as it is. Any other is repaired:
    all radii shrink by the least amount that parts the circles, and the whole is scaled so that
    the perimeter of its box is exactly 4.

    Returns:
        The certified sum of the radii, the sum when scaled to a perimeter of exactly 4, and the
        shrinking.

    Raises:
        Infeasible: A radius is not positive, or the repair would be too large.
    """
    shrunk = shrink_circles(circles)
    width, height = (
        max(row[axis] + row[2] for row in shrunk.rows)
        - min(row[axis] - row[2] for row in shrunk.rows)
        - 2 * shrunk.shrinking
        for axis in (0, 1)
    )
    perimeter = 2 * (width + height) * shrunk.unit
    if perimeter > PERIMETER * (1 + MAX_EXCESS):
        raise Infeasible(
            f"the bounding box of the circles has the perimeter {float(perimeter):.9g}; "
            f"expected at most {PERIMETER}"
        )
    total, rescaled = shrunk.total, shrunk.total * PERIMETER / perimeter
    is_feasible = shrunk.shrinking == 0 and perimeter <= PERIMETER
    return (total if is_feasible else rescaled), rescaled, shrunk.shrinking * shrunk.unit

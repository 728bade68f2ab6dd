"""Scores packings of circles into the unit square by their certified sum of radii."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import drawing
import numpy as np
from circles import describe_circles, shrink_circles
from exact import format_exactly, round_down, round_up

from evolve.scoring import ProgramHandle, Score, as_floats

if TYPE_CHECKING:
    from fractions import Fraction

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is proven about a packing.

    Attributes:
        total: Sum of the radii after the shrinking, rounded down to a double.
        shrinking: What was taken from every radius, rounded up to a double.
        exact: The sum itself.
    """

    total: float
    shrinking: float
    exact: Fraction


def evaluate(program: ProgramHandle, *, count: int) -> Score:
    """Scores `pack(count)`, which returns one row `(x, y, radius)` for each circle."""
    circles = as_floats(program.call("pack", count), (count, 3), where="pack", magnitude=2.0)
    certificate = certify(circles)
    radii = circles[:, 2]
    gaps = _border_gaps(circles)
    return Score(
        certificate.total,
        metrics={
            "shrinking": certificate.shrinking,
            "smallest_radius": float(radii.min()),
            "largest_radius": float(radii.max()),
        },
        measures={
            "radius_spread": float(radii.std() / radii.mean()),
            "border_share": float(np.mean(gaps < 1e-3)),
        },
        artifacts={
            "certified": format_exactly(certificate.exact, up=False),
            "circles": describe_circles(circles),
        },
    )


def draw(program: ProgramHandle, *, count: int) -> Score:
    """Scores a packing and draws it in its square."""
    score = evaluate(program, count=count)
    circles = as_floats(program.call("pack", count), (count, 3), where="pack", magnitude=2.0)
    square = drawing.polygon([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
    discs = [drawing.circle(*row) for row in circles.tolist()]
    return drawing.add_picture(score, [square, *discs], (0.0, 0.0), (1.0, 1.0))


def certify(circles: NDArray[np.float64]) -> Certificate:
    """Finds exactly what a packing is worth, with no tolerance.

    Every radius is made smaller by the same amount: the least that leaves no circle beyond the
    border and no two circles overlapping. Exactly feasible circles lose nothing.

    Args:
        circles: Centres and radii, shape `(n, 3)`, each number at most 2 in size.

    Returns:
        The certified sum and the amount of the shrinking.

    Raises:
        Infeasible: A radius is not positive, or would not be after the shrinking, or the
            shrinking would be more than `circles.MAX_SHRINKING`.
    """
    shrunk = shrink_circles(circles, _border_gaps(circles), _cross_border)
    shrinking = round_up(shrunk.shrinking * shrunk.unit)
    return Certificate(round_down(shrunk.total), shrinking, shrunk.total)


def _border_gaps(circles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns each circle's distance from the border, negative beyond it."""
    x, y, radii = circles.T
    gaps: NDArray[np.float64] = np.minimum.reduce([x, y, 1.0 - x, 1.0 - y]) - radii
    return gaps


def _cross_border(row: tuple[int, ...], side: int) -> int:
    x, y, radius = row
    return max(radius - x, radius - y, x + radius - side, y + radius - side)

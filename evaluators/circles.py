"""By how much the radii of overlapping circles must shrink, exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from exact import scale_rows

from evolve.scoring import Infeasible

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MAX_SHRINKING = Fraction(1, 10**6)

# Bits beyond those of the coordinates, for lower bounds of square roots.
_EXTRA_BITS = 128
# Far above the rounding errors of sums and roots of doubles up to 2 in size.
_MARGIN = 1e-12

Row = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ShrunkCircles:
    """Circles whose radii were all made smaller by the least amount that parts them.

    Attributes:
        rows: Centres and the radii as returned, in units of `unit`.
        shrinking: What is taken from every radius, in units of `unit`.
        unit: The length that a 1 stands for.
    """

    rows: tuple[Row, ...]
    shrinking: int
    unit: Fraction

    @property
    def total(self) -> Fraction:
        """The exact sum of the radii after the shrinking."""
        return (sum(row[2] for row in self.rows) - len(self.rows) * self.shrinking) * self.unit


def shrink_circles(
    circles: NDArray[np.float64],
    gaps: NDArray[np.float64] | None = None,
    beyond: Callable[[Row, int], int] | None = None,
) -> ShrunkCircles:
    """Shrinks all radii by the least amount that leaves no overlap.

    Doubles are whole numbers over a power of 2, so all but square roots is exact; of roots a
    lower bound counts, which can only make the radii smaller. Exactly feasible circles lose
    nothing.

    Args:
        circles: Centres and radii, shape `(n, 3)`, each number at most 2 in size.
        gaps: Each circle's distance from a fixed border by doubles, negative beyond it; shape
            `(n,)`. None where there is no such border.
        beyond: Gives by how much a circle crosses that border exactly, from its row and the
            length 1, both in the same units.

    Raises:
        Infeasible: A radius is not positive, or would not be after the shrinking, or the
            shrinking would be more than `MAX_SHRINKING`.
    """
    radii = circles[:, 2]
    if not (radii > 0.0).all():
        worst = int(np.argmin(radii))
        raise Infeasible(f"circle {worst}: expected a radius above 0, got {radii[worst]:g}")
    rows, bits = scale_rows(circles.tolist())
    borders = np.full(len(circles), -np.inf) if gaps is None else -gaps
    overlaps = measure_overlaps(circles)
    # What needs less than this by doubles needs less than the largest by exact numbers.
    threshold = max(0.0, float(borders.max()), float(overlaps.max(initial=0.0)) / 2) - 2 * _MARGIN
    needs = [(0, "")]
    if beyond is not None:
        for index in np.flatnonzero(borders >= threshold).tolist():
            needed = beyond(rows[index], 1 << bits) << (_EXTRA_BITS + 1)
            needs.append((needed, f"circle {index} crosses the border"))
    for first, second in np.argwhere(overlaps >= 2 * threshold).tolist():
        needed = _overlap(rows[first], rows[second])
        needs.append((needed, f"circles {first} and {second} overlap"))
    shrinking, culprit = max(needs, key=lambda need: need[0])
    unit = Fraction(1, 1 << (bits + _EXTRA_BITS + 1))
    if shrinking * unit > MAX_SHRINKING:
        raise Infeasible(
            f"{culprit}: feasible only with all radii smaller by {float(shrinking * unit):.3g}; "
            f"at most {float(MAX_SHRINKING):g} is repaired"
        )
    scaled = tuple(tuple(value << (_EXTRA_BITS + 1) for value in row) for row in rows)
    if min(row[2] for row in scaled) <= shrinking:
        raise Infeasible(f"circle {int(np.argmin(radii))}: no radius is left after the repair")
    return ShrunkCircles(scaled, shrinking, unit)


def measure_overlaps(circles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the overlap of each pair once, shape `(n, n)`; the rest is -inf."""
    x, y, radii = circles.T
    distances = np.hypot(x[:, None] - x, y[:, None] - y)
    overlaps: NDArray[np.float64] = radii[:, None] + radii - distances
    overlaps[np.tril_indices(len(radii))] = -np.inf
    return overlaps


def describe_circles(circles: NDArray[np.float64]) -> str:
    """Lists circles, the largest first."""
    order = np.argsort(-circles[:, 2], kind="stable")
    return "\n".join(f"x={x:.4f} y={y:.4f} r={r:.4f}" for x, y, r in circles[order].tolist())


def _overlap(first: Row, second: Row) -> int:
    """Returns the shrinking that a pair needs; never too little."""
    squared = (first[0] - second[0]) ** 2 + (first[1] - second[1]) ** 2
    distance = math.isqrt(squared << (2 * _EXTRA_BITS))
    return ((first[2] + second[2]) << _EXTRA_BITS) - distance

"""Scores packings of circles into the unit square by their certified sum of radii."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from evolve.scoring import Infeasible, ProgramHandle, Score, as_floats

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_SHRINKING = Fraction(1, 10**6)

# Bits beyond those of the coordinates, for lower bounds of square roots.
_EXTRA_BITS = 128
# Far above the rounding errors of sums and roots of doubles up to 2 in size.
_MARGIN = 1e-12


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is proven about a packing.

    Attributes:
        total: Sum of the radii after the shrinking, rounded down to a double.
        shrinking: What was taken from every radius, rounded up to a double.
    """

    total: float
    shrinking: float


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
        artifacts={"circles": _describe(circles)},
    )


def certify(circles: NDArray[np.float64]) -> Certificate:
    """Finds exactly what a packing is worth, with no tolerance.

    Every radius is made smaller by the same amount: the least that leaves no circle beyond the
    border and no two circles overlapping. Exactly feasible circles lose nothing. Doubles are
    whole numbers over a power of 2, so all but square roots is exact; of roots a lower bound
    counts, which can only make the total smaller.

    Args:
        circles: Centres and radii, shape `(n, 3)`, each number at most 2 in size.

    Returns:
        The certified sum and the amount of the shrinking.

    Raises:
        Infeasible: A radius is not positive, or would not be after the shrinking, or the
            shrinking would be more than `MAX_SHRINKING`.
    """
    radii = circles[:, 2]
    if not (radii > 0.0).all():
        worst = int(np.argmin(radii))
        raise Infeasible(f"circle {worst}: expected a radius above 0, got {radii[worst]:g}")
    bits = max(_count_bits(value) for value in circles.ravel().tolist())
    rows = [tuple(_scale(value, bits) for value in row) for row in circles.tolist()]
    shrinking, culprit = _find_shrinking(circles, rows, bits)
    # From here on in units of 2 ** -unit_bits.
    unit_bits = bits + _EXTRA_BITS + 1
    if Fraction(shrinking, 1 << unit_bits) > MAX_SHRINKING:
        amount = shrinking / (1 << unit_bits)
        raise Infeasible(
            f"{culprit}: feasible only with all radii smaller by {amount:.3g}; "
            f"at most {float(MAX_SHRINKING):g} is repaired"
        )
    scaled = [row[2] << (_EXTRA_BITS + 1) for row in rows]
    if min(scaled) <= shrinking:
        raise Infeasible(f"circle {int(np.argmin(radii))}: no radius is left after the repair")
    total = Fraction(sum(scaled) - len(scaled) * shrinking, 1 << unit_bits)
    amount_down = _round_down(Fraction(-shrinking, 1 << unit_bits))
    return Certificate(_round_down(total), 0.0 - amount_down)


def _find_shrinking(
    circles: NDArray[np.float64], rows: list[tuple[int, ...]], bits: int
) -> tuple[int, str]:
    """Gives the least shrinking in units of `2 ** -(bits + _EXTRA_BITS + 1)`, and who needs it.

    Doubles pick the places that may need the most; only those are looked at exactly.
    """
    walls = -_border_gaps(circles)
    overlaps = _overlaps(circles)
    # What needs less than this by doubles needs less than the largest by exact numbers.
    threshold = max(0.0, float(walls.max()), float(overlaps.max(initial=0.0)) / 2) - 2 * _MARGIN
    shrinking, culprit = 0, ""
    for index in np.flatnonzero(walls >= threshold).tolist():
        x, y, radius = rows[index]
        far = 1 << bits
        beyond = max(radius - x, radius - y, x + radius - far, y + radius - far)
        needed = beyond << (_EXTRA_BITS + 1)
        if needed > shrinking:
            shrinking, culprit = needed, f"circle {index} crosses the border"
    for first, second in np.argwhere(overlaps >= 2 * threshold).tolist():
        (x, y, radius), (other_x, other_y, other_radius) = rows[first], rows[second]
        squared = (x - other_x) ** 2 + (y - other_y) ** 2
        distance = math.isqrt(squared << (2 * _EXTRA_BITS))
        needed = ((radius + other_radius) << _EXTRA_BITS) - distance
        if needed > shrinking:
            shrinking, culprit = needed, f"circles {first} and {second} overlap"
    return shrinking, culprit


def _border_gaps(circles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gives each circle's distance from the border, negative beyond it."""
    x, y, radii = circles.T
    gaps: NDArray[np.float64] = np.minimum.reduce([x, y, 1.0 - x, 1.0 - y]) - radii
    return gaps


def _overlaps(circles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gives by how much pairs overlap, shape `(n, n)`; each pair counts once, the rest is -inf."""
    x, y, radii = circles.T
    distances = np.hypot(x[:, None] - x, y[:, None] - y)
    overlaps: NDArray[np.float64] = radii[:, None] + radii - distances
    overlaps[np.tril_indices(len(radii))] = -np.inf
    return overlaps


def _count_bits(value: float) -> int:
    return value.as_integer_ratio()[1].bit_length() - 1


def _scale(value: float, bits: int) -> int:
    numerator, denominator = value.as_integer_ratio()
    return numerator * ((1 << bits) // denominator)


def _round_down(value: Fraction) -> float:
    nearest = float(value)
    return nearest if Fraction(nearest) <= value else math.nextafter(nearest, -math.inf)


def _describe(circles: NDArray[np.float64]) -> str:
    order = np.argsort(-circles[:, 2], kind="stable")
    return "\n".join(f"x={x:.4f} y={y:.4f} r={r:.4f}" for x, y, r in circles[order].tolist())

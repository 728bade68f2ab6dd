"""Scores packings of unit hexagons by the certified side of a hexagon around them."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import drawing
import numpy as np
from exact import format_exactly, round_up

from evolve.scoring import Infeasible, ProgramHandle, Score, as_floats

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_STRETCH = Fraction(1, 10**6)

# Lengths are whole numbers of 2 ** -256, and off by far less than the margin.
_BITS = 256
_ONE = 1 << _BITS
_MARGIN = 1 << (_BITS - 200)
_ROOT = math.isqrt(3 << (2 * _BITS))
# Pi to 90 decimal places.
_PI = (
    3141592653589793238462643383279502884197169399375105820974944592307816406286208998628034825
    * _ONE
    // 10**90
)

Vector = tuple[int, int]


class Hexagon:
    """A regular hexagon of side 1 around the origin, enclosed by whole numbers.

    Attributes:
        corners: Its six corners.
        normals: Unit vectors through the middles of its six sides.
    """

    __slots__ = ("corners", "normals")

    def __init__(self, degrees: float) -> None:
        # A turn by 60 degrees changes nothing, so a small angle suffices.
        cosine, sine = _rotate(Fraction(degrees) % 60)
        half = (_ONE // 2, _ROOT // 2)
        self.corners = [(cosine, sine)]
        for _ in range(5):
            self.corners.append(_turn(self.corners[-1], half))
        middle = (_ROOT // 2, _ONE // 2)
        self.normals = [_turn(corner, middle) for corner in self.corners]

    def reach(self, direction: Vector) -> int:
        """Returns how far the hexagon goes in a direction."""
        return max(_dot(corner, direction) for corner in self.corners)


def evaluate(program: ProgramHandle, *, count: int) -> Score:
    """Scores `pack(count)`: rows `(x, y, degrees)`, the first of them for the outer hexagon."""
    reply = program.call("pack", count)
    rows = as_floats(reply, (count + 1, 3), where="pack", magnitude=1e4)
    side, stretch = certify(rows)
    turns = np.radians(6.0 * rows[1:, 2])
    distances = np.hypot(*(rows[1:, :2] - rows[0, :2]).T)
    return Score(
        round_up(side),
        metrics={"stretch": round_up(stretch)},
        measures={
            "alignment": float(abs(np.exp(1j * turns).mean())),
            "middle_share": float(np.mean(distances < 0.5 * distances.max())),
        },
        artifacts={
            "certified": format_exactly(side, up=True),
            "hexagons": "\n".join(f"x={x:.4f} y={y:.4f} turn={t:.3f}" for x, y, t in rows.tolist()),
        },
    )


def draw(program: ProgramHandle, *, count: int) -> Score:
    """Scores a packing and draws its hexagons in the outer one."""
    score = evaluate(program, count=count)
    reply = program.call("pack", count)
    rows = as_floats(reply, (count + 1, 3), where="pack", magnitude=1e4)
    outer, *inner = (
        _corners(x, y, turn, score.objective if place == 0 else 1.0)
        for place, (x, y, turn) in enumerate(rows.tolist())
    )
    parts = [drawing.polygon(outer), *(drawing.polygon(item, fill="#9bbfe0") for item in inner)]
    low = min(x for x, _ in outer), min(y for _, y in outer)
    high = max(x for x, _ in outer), max(y for _, y in outer)
    return drawing.add_picture(score, parts, low, high)


def _corners(x: float, y: float, turn: float, side: float) -> list[tuple[float, float]]:
    angles = [math.radians(turn + 60.0 * corner) for corner in range(6)]
    return [(x + side * math.cos(angle), y + side * math.sin(angle)) for angle in angles]


def certify(rows: NDArray[np.float64]) -> tuple[Fraction, Fraction]:
    """Finds the side that the outer hexagon needs, and by how much the packing was stretched.

    All inner centres move away from the outer one by the same factor: the least that parts all
    hexagons. The outer side is then the least that holds them.

    Raises:
        Infeasible: Hexagons overlap by more than `MAX_STRETCH` repairs.
    """
    (x, y, degrees), *inner = rows.tolist()
    outer = Hexagon(degrees)
    centers = [_fixed(Fraction(a) - Fraction(x), Fraction(b) - Fraction(y)) for a, b, _ in inner]
    hexagons = [Hexagon(turn) for _, _, turn in inner]
    stretch = _ONE
    for second in range(len(inner)):
        for first in range(second):
            (x1, y1), (x2, y2) = centers[first], centers[second]
            needed = _part((x2 - x1, y2 - y1), hexagons[first], hexagons[second])
            if needed is None or needed > _ONE + _ONE * MAX_STRETCH:
                raise Infeasible(f"hexagons {first + 1} and {second + 1} overlap")
            stretch = max(stretch, needed)
    reach = max(
        _dot(center, normal) * stretch // _ONE + hexagon.reach(normal)
        for center, hexagon in zip(centers, hexagons, strict=True)
        for normal in outer.normals
    )
    side = Fraction(2 * (reach + _MARGIN), _ROOT)
    return side, Fraction(stretch - _ONE, _ONE)


def _part(apart: Vector, first: Hexagon, second: Hexagon) -> int | None:
    """Returns the factor on the distance of two hexagons that parts them; None if none does."""
    factors = []
    for normal in first.normals[:3] + second.normals[:3]:
        distance = abs(_dot(apart, normal))
        if distance > _MARGIN:
            needed = first.reach(normal) + second.reach(normal) + _MARGIN
            factors.append(-(-needed * _ONE // distance) if needed > distance else _ONE)
    return min(factors, default=None)


def _rotate(degrees: Fraction) -> Vector:
    """Returns cosine and sine by their series, for angles of at most 60 degrees."""
    angle = degrees.numerator * _PI // (180 * degrees.denominator)
    sums, term, power = [0, 0], _ONE, 0
    while term:
        sums[power % 2] += term if power % 4 < 2 else -term
        power += 1
        term = term * angle // (power * _ONE)
    return sums[0], sums[1]


def _turn(vector: Vector, by: Vector) -> Vector:
    (x, y), (cosine, sine) = vector, by
    return (x * cosine - y * sine) // _ONE, (x * sine + y * cosine) // _ONE


def _dot(first: Vector, second: Vector) -> int:
    return (first[0] * second[0] + first[1] * second[1]) // _ONE


def _fixed(x: Fraction, y: Fraction) -> Vector:
    return x.numerator * _ONE // x.denominator, y.numerator * _ONE // y.denominator

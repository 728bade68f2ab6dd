"""Exact areas and distances of points in the plane and in space."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Point = tuple[int, ...]


def double_area(first: Point, second: Point, third: Point) -> int:
    """Returns twice the signed area of a triangle; positive when it turns left."""
    (x, y), (x2, y2), (x3, y3) = first, second, third
    return (x2 - x) * (y3 - y) - (x3 - x) * (y2 - y)


def find_smallest_triangle(points: Sequence[Point]) -> tuple[int, tuple[int, ...]]:
    """Returns twice the smallest area of three points, and which three."""
    return min(
        (abs(double_area(*(points[i] for i in chosen))), chosen)
        for chosen in combinations(range(len(points)), 3)
    )


def find_hull(points: Sequence[Point]) -> list[Point]:
    """Returns the corners of the convex hull, to the left around; points on its sides are none."""
    ordered = sorted(set(points))
    hull: list[Point] = []
    for way in (ordered, ordered[::-1]):
        start = len(hull)
        for point in way:
            while len(hull) >= start + 2 and double_area(hull[-2], hull[-1], point) <= 0:
                hull.pop()
            hull.append(point)
        hull.pop()
    return hull


def double_hull_area(points: Sequence[Point]) -> int:
    """Returns twice the area of the convex hull."""
    hull = find_hull(points)
    return sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(hull, hull[1:] + hull[:1], strict=True))


def find_distances(points: Sequence[Point]) -> tuple[int, int]:
    """Returns the squares of the smallest and of the largest distance."""
    squares = [
        sum((a - b) ** 2 for a, b in zip(first, second, strict=True))
        for first, second in combinations(points, 2)
    ]
    return min(squares), max(squares)


def find_roundness(points: NDArray[np.float64]) -> float:
    """Returns how alike the spreads of points along their main axes are, from 0 to 1."""
    spreads = np.linalg.eigvalsh(np.cov(points.T))
    return float(np.sqrt(max(spreads[0], 0.0) / spreads[-1])) if spreads[-1] > 0 else 0.0


def find_hull_share(points: Sequence[Point]) -> float:
    """Returns the share of the points that are corners of the convex hull."""
    return float(Fraction(len(find_hull(points)), len(points)))


def describe_points(points: NDArray[np.float64]) -> str:
    """Lists points, one a line."""
    return "\n".join(" ".join(f"{value:.4f}" for value in point) for point in points.tolist())

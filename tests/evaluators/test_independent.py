"""Certified values against plain computations in fractions that share no code with evaluators."""

from fractions import Fraction
from itertools import combinations, pairwise

import autocorrelation_first
import autocorrelation_second
import autocorrelation_third
import erdos_min_overlap
import heilbronn_convex
import minmax_distance_ratio
import numpy as np
import pytest

from tests.direct_program import reply_with

SEEDS = range(4)


def draw(seed, *shape):
    """Doubles of very different size."""
    rng = np.random.default_rng(seed)
    return rng.random(shape) * 10.0 ** rng.uniform(-6, 2, shape)


def certified(module, reply, **parameters):
    score = module.evaluate(reply_with(reply), **parameters)
    text = Fraction(score.artifacts["certified"])
    assert abs(text - Fraction(score.objective)) <= abs(text) / 2**51 + Fraction(1, 10**19)
    return text


def autoconvolve(heights):
    f = [Fraction(height) for height in heights]
    nodes = [Fraction(0)] * (2 * len(f) - 1)
    for i, a in enumerate(f):
        for j, b in enumerate(f):
            nodes[i + j] += a * b
    return f, nodes


@pytest.mark.parametrize("seed", SEEDS)
def test_autocorrelations_from_their_definitions(seed):
    heights = draw(seed, 9)
    f, nodes = autoconvolve(heights)
    width = Fraction(1, 2 * len(f))
    integral = sum(f) * width
    first = max(nodes) * width / integral**2
    assert 0 <= certified(autocorrelation_first, heights, steps=9) - first < Fraction(1, 10**19)
    # The square of a line between a and b has the mean (a^2 + ab + b^2) / 3.
    ends = [Fraction(0), *(node * width for node in nodes), Fraction(0)]
    squares = sum(width * (a * a + a * b + b * b) / 3 for a, b in pairwise(ends))
    areas = sum(width * (a + b) / 2 for a, b in pairwise(ends))
    second = squares / (areas * max(ends))
    assert 0 <= second - certified(autocorrelation_second, heights, steps=9) < Fraction(1, 10**19)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_signed_autocorrelation_from_its_definition(seed):
    heights = draw(seed, 8) * np.where(np.arange(8) % 3 == 0, -1.0, 1.0)
    f, nodes = autoconvolve(heights)
    third = max(nodes) * 16 / sum(f) ** 2
    assert 0 <= certified(autocorrelation_third, heights, steps=8) - third < Fraction(1, 10**19)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_overlap_from_its_definition(seed):
    values = np.random.default_rng(seed).random(7)
    values *= 3.5 / values.sum()
    values = np.minimum(values, 1.0)
    values[np.argmin(values)] += 3.5 - values.sum()
    h = [Fraction(value) for value in values]
    # What rounding broke moves towards 0, or towards 1.
    total = sum(h)
    if total > Fraction(7, 2):
        h = [value * Fraction(7, 2) / total for value in h]
    else:
        h = [1 - (1 - value) * Fraction(7, 2) / (7 - total) for value in h]
    overlaps = [
        sum(h[i] * (1 - h[i + k]) for i in range(7) if 0 <= i + k < 7) * Fraction(2, 7)
        for k in range(-6, 7)
    ]
    found = certified(erdos_min_overlap, values, steps=7)
    assert 0 <= found - max(overlaps) < Fraction(1, 10**19)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_ratios_of_distances_from_their_definition(seed, dimensions):
    points = draw(seed, 6, dimensions)
    squares = [
        sum((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(p, q, strict=True))
        for p, q in combinations(points.tolist(), 2)
    ]
    exact = max(squares) / min(squares)
    found = certified(minmax_distance_ratio, points, count=6, dimensions=dimensions)
    assert 0 <= found - exact < Fraction(1, 10**19)


@pytest.mark.parametrize("seed", SEEDS)
def test_smallest_triangles_over_a_hull_that_is_known(seed):
    # All other points lie inside the square, so the hull is the square.
    inside = np.random.default_rng(seed).uniform(0.1, 0.9, (4, 2))
    points = np.concatenate([inside, [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]])
    exact = min(
        abs(np.linalg.det(np.array([[1, *p], [1, *q], [1, *r]], dtype=float)) / 2.0)
        for p, q, r in combinations(points.tolist(), 3)
    )
    found = certified(heilbronn_convex, points, count=8)
    assert float(found) == pytest.approx(exact, abs=1e-15)

"""Scores step functions by the second autocorrelation inequality, exactly."""

from __future__ import annotations

import itertools
from fractions import Fraction

import drawing
from exact import format_exactly, round_down, scale_to_integers
from step_functions import call_heights, convolve_with_itself, describe_heights, measure_heights

from evolve.scoring import Infeasible, ProgramHandle, Score


def evaluate(program: ProgramHandle, *, steps: int) -> Score:
    """Scores `heights(steps)`: the heights of a non-negative step function on [-1/4, 1/4]."""
    heights = call_heights(program, steps)
    if heights.min() < 0.0 or heights.max() == 0.0:
        raise Infeasible("heights: expected none below 0, and not all of them 0")
    whole, _ = scale_to_integers(heights.tolist())
    ratio = find_ratio(convolve_with_itself(whole))
    return Score(
        round_down(ratio),
        measures=measure_heights(heights),
        artifacts={
            "certified": format_exactly(ratio, up=False),
            "heights": describe_heights(heights),
        },
    )


def draw(program: ProgramHandle, *, steps: int) -> Score:
    """Scores a step function and draws it."""
    score = evaluate(program, steps=steps)
    heights = call_heights(program, steps).tolist()
    low = -1.0 if min(heights) < 0.0 else 0.0
    return drawing.add_picture(score, drawing.steps(heights), (0.0, low), (1.0, 1.0))


def find_ratio(nodes: list[int]) -> Fraction:
    """Returns the square of the 2-norm over the product of the 1-norm and the maximum.

    Of the continuous function that is linear between nodes at equal distances, and 0 before the
    first and behind the last.
    """
    ends = [0, *nodes, 0]
    squares = sum(a * a + a * b + b * b for a, b in itertools.pairwise(ends))
    return Fraction(squares, 3 * sum(nodes) * max(nodes))

"""Scores step functions by the first autocorrelation inequality, exactly."""

from __future__ import annotations

from fractions import Fraction

import drawing
from exact import format_exactly, round_up, scale_to_integers
from step_functions import call_heights, convolve_with_itself, describe_heights, measure_heights

from evolve.scoring import Infeasible, ProgramHandle, Score


def evaluate(program: ProgramHandle, *, steps: int) -> Score:
    """Scores `heights(steps)`: the heights of a non-negative step function on [-1/4, 1/4]."""
    heights = call_heights(program, steps)
    if heights.min() < 0.0 or heights.max() == 0.0:
        raise Infeasible("heights: expected none below 0, and not all of them 0")
    whole, _ = scale_to_integers(heights.tolist())
    # With steps of width 1 / (2 steps): the maximum lies at a multiple of the width.
    ratio = Fraction(2 * steps * max(convolve_with_itself(whole)), sum(whole) ** 2)
    return Score(
        round_up(ratio),
        measures=measure_heights(heights),
        artifacts={
            "certified": format_exactly(ratio, up=True),
            "heights": describe_heights(heights),
        },
    )


def draw(program: ProgramHandle, *, steps: int) -> Score:
    """Scores a step function and draws it."""
    score = evaluate(program, steps=steps)
    heights = call_heights(program, steps).tolist()
    low = -1.0 if min(heights) < 0.0 else 0.0
    return drawing.add_picture(score, drawing.steps(heights), (0.0, low), (1.0, 1.0))

"""Scores step functions by the third autocorrelation inequality, exactly."""

from __future__ import annotations

from fractions import Fraction

import drawing
from exact import format_exactly, round_up, scale_to_integers
from step_functions import call_heights, convolve_with_itself, describe_heights, measure_heights

from evolve.scoring import Infeasible, ProgramHandle, Score


def evaluate(program: ProgramHandle, *, steps: int) -> Score:
    """Scores `heights(steps)`: the heights, of any sign, of a step function on [-1/4, 1/4].

    The objective is the signed maximum of the autoconvolution over the square of the integral;
    the same with the maximum of absolute values is a metric.
    """
    heights = call_heights(program, steps)
    whole, _ = scale_to_integers(heights.tolist())
    total = sum(whole)
    if total == 0:
        raise Infeasible("heights: expected an integral other than 0, got 0")
    nodes = convolve_with_itself(whole)
    ratio = Fraction(2 * steps * max(nodes), total**2)
    absolute = Fraction(2 * steps * max(map(abs, nodes)), total**2)
    return Score(
        round_up(ratio),
        metrics={"absolute": round_up(absolute)},
        measures={
            "negative_share": float((heights < 0.0).mean()),
            "middle": measure_heights(heights)["middle"],
        },
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

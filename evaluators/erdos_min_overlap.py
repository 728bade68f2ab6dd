"""Scores step functions by Erdos' minimum overlap, exactly."""

from __future__ import annotations

from fractions import Fraction
from math import lcm
from operator import mul

import drawing
import numpy as np
from exact import format_exactly, round_up
from step_functions import call_heights, describe_heights

from evolve.scoring import Infeasible, ProgramHandle, Score

MAX_DEFECT = Fraction(1, 10**6)


def evaluate(program: ProgramHandle, *, steps: int) -> Score:
    """Scores `heights(steps)`: a step function on [0, 2] between 0 and 1 with the integral 1."""
    heights = call_heights(program, steps)
    if heights.min() < 0.0 or heights.max() > 1.0:
        raise Infeasible("heights: expected all of them from 0 to 1")
    repaired, defect = repair_sum([Fraction(height) for height in heights.tolist()])
    overlap = find_overlap(repaired)
    return Score(
        round_up(overlap),
        metrics={"sum_defect": float(defect)},
        measures={
            "edge_share": float(np.mean((heights < 0.01) | (heights > 0.99))),
            "asymmetry": float(np.abs(heights - heights[::-1]).mean()),
        },
        artifacts={
            "certified": format_exactly(overlap, up=True),
            "heights": describe_heights(heights),
        },
    )


def draw(program: ProgramHandle, *, steps: int) -> Score:
    """Scores a step function and draws it."""
    score = evaluate(program, steps=steps)
    heights = call_heights(program, steps).tolist()
    low = -1.0 if min(heights) < 0.0 else 0.0
    return drawing.add_picture(score, drawing.steps(heights), (0.0, low), (1.0, 1.0))


def repair_sum(heights: list[Fraction]) -> tuple[list[Fraction], Fraction]:
    """Makes the sum exactly half the number of steps, and keeps all heights from 0 to 1.

    All heights move towards 0, or all towards 1, by the same share of their distance.

    Returns:
        The repaired heights, and by how much the sum was too large.

    Raises:
        Infeasible: The sum is off by more than a millionth of what it should be.
    """
    wanted = Fraction(len(heights), 2)
    total = sum(heights, Fraction(0))
    defect = total - wanted
    if abs(defect) > MAX_DEFECT * wanted:
        raise Infeasible(f"heights: expected the sum {float(wanted)}, got {float(total):.9g}")
    if defect > 0:
        return [height * wanted / total for height in heights], defect
    share = wanted / (len(heights) - total)
    return [1 - (1 - height) * share for height in heights], defect


def find_overlap(heights: list[Fraction]) -> Fraction:
    """Returns the largest integral of `h(x) * (1 - h(x + t))` over all shifts t.

    Between shifts by whole steps it is linear in the shift, so those suffice.
    """
    scale = lcm(*(height.denominator for height in heights))
    ours = [int(height * scale) for height in heights]
    others = [scale - height for height in ours]
    count = len(ours)
    largest = max(
        sum(map(mul, ours[max(0, -shift) :], others[max(0, shift) :]))
        for shift in range(1 - count, count)
    )
    return Fraction(2 * largest, count * scale**2)

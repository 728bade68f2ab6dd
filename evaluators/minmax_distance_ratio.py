"""Scores points by the square of the ratio of their largest to their smallest distance."""

from __future__ import annotations

from fractions import Fraction

import drawing
import numpy as np
from exact import format_exactly, round_up, scale_rows
from points import describe_points, find_distances, find_roundness

from evolve.scoring import Infeasible, ProgramHandle, Score, as_floats


def evaluate(program: ProgramHandle, *, count: int, dimensions: int) -> Score:
    """Scores `place(count, dimensions)`, which returns one row of coordinates for each point."""
    reply = program.call("place", count, dimensions)
    points = as_floats(reply, (count, dimensions), where="place", magnitude=1e6)
    rows, _ = scale_rows(points.tolist())
    smallest, largest = find_distances(rows)
    if smallest == 0:
        raise Infeasible("place: expected different points, got the same one twice")
    ratio = Fraction(largest, smallest)
    distances = np.linalg.norm(points[:, None] - points, axis=2)[np.triu_indices(count, 1)]
    return Score(
        round_up(ratio),
        metrics={"ratio": float(np.sqrt(round_up(ratio)))},
        measures={
            "short_share": float(np.mean(distances < 1.001 * distances.min())),
            "roundness": find_roundness(points),
        },
        artifacts={
            "certified": format_exactly(ratio, up=True),
            "points": describe_points(points),
        },
    )


def draw(program: ProgramHandle, *, count: int, dimensions: int) -> Score:
    """Scores points and draws their first two coordinates."""
    score = evaluate(program, count=count, dimensions=dimensions)
    reply = program.call("place", count, dimensions)
    points = as_floats(reply, (count, dimensions), where="place", magnitude=1e6)
    return drawing.draw_points(score, points[:, :2].tolist())

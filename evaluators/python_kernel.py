"""Scores Python functions for rolling medians by their time, beside a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from evolve.scoring import Infeasible, ProgramHandle, Score, as_floats

if TYPE_CHECKING:
    from numpy.typing import NDArray

REPEATS = 5
LARGEST = 1e300
_REFERENCE = """
def rolling_median(values, window):
    values = values.tolist()
    middle = window // 2
    count = len(values) - window + 1
    return [sorted(values[i : i + window])[middle] for i in range(count)]
"""
# Stands here and not in the problem folder, so that no series can be drawn beforehand.
_STREAM = 20_261_124


def evaluate(program: ProgramHandle, *, seed: int, count: int, window: int) -> Score:
    """Scores `rolling_median(values, window)`."""
    rng = np.random.default_rng([_STREAM, seed])
    cases = draw_cases(rng)
    answers = program.call_many("rolling_median", cases)
    for number, (case, answer) in enumerate(zip(cases, answers, strict=True)):
        check_answer(answer, *case, where=f"case {number}")
    # No seed leads to what is timed: each round has a series that no program has ever seen.
    fresh = np.random.default_rng()
    reference = program.other({"reference.py": _REFERENCE})
    timing = program.time(
        "rolling_median",
        lambda: (draw_series(fresh, count), window),
        repeats=REPEATS,
        reference=reference,
    )
    for answer, given in zip(timing.values, timing.inputs, strict=True):
        check_answer(answer, *given, where="the timed series")
    ratio = timing.ratio
    return Score(
        ratio.median,
        metrics={
            "ratio_low": ratio.low,
            "ratio_high": ratio.high,
            "cpu_seconds": timing.cpu_seconds.median,
        },
        artifacts={
            "times": f"{ratio.median:.4g} times the reference, from {ratio.low:.4g} to "
            f"{ratio.high:.4g} in {REPEATS} pairs of runs"
        },
    )


def draw_cases(rng: np.random.Generator) -> list[tuple[NDArray[np.float64], int]]:
    """Draws small series on which programs go wrong, each with a window."""
    cases = [
        (np.zeros(1), 1),
        (np.array([2.0, 1.0, 3.0]), 3),
        (np.arange(700.0), 501),
        (np.arange(60.0)[::-1].copy(), 7),
        (np.full(50, -3.5), 9),
        (np.array([1.0, np.nextafter(1.0, 2.0), 1.0, np.nextafter(1.0, 0.0)] * 8), 5),
        (np.array([LARGEST, -LARGEST, 5e-324, -5e-324, 0.0] * 5), 3),
        (np.tile([1.0, 2.0], 40), 1),
    ]
    for _ in range(60):
        window = int(2 * rng.integers(0, 16) + 1)
        size = int(window + rng.integers(0, 60))
        levels = int(rng.choice((2, 5, 1000)))
        cases.append((rng.integers(-levels, levels, size) / 4.0, window))
    for _ in range(20):
        window = int(2 * rng.integers(0, 40) + 1)
        cases.append((draw_series(rng, window + int(rng.integers(0, 200))), window))
    return [cases[i] for i in rng.permutation(len(cases))]


def draw_series(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Draws a walk with noise, outliers and stretches that stand still."""
    walk = np.cumsum(rng.standard_normal(count)) + 5.0 * rng.standard_normal(count)
    walk[rng.random(count) < 0.01] *= 100.0
    still = rng.random(count) < 0.1
    walk[still] = np.round(walk[still])
    return walk


def check_answer(answer: Any, values: NDArray[np.float64], window: int, *, where: str) -> None:
    """Compares an answer with the medians, bit by bit but for the sign of zeros.

    Raises:
        Infeasible: It is of another kind or shape, or a number of it is wrong.
    """
    expected = find_medians(values, window)
    found = as_floats(answer, (len(expected),), where=where, magnitude=LARGEST)
    wrong = np.flatnonzero(found != expected)
    if len(wrong):
        first = int(wrong[0])
        raise Infeasible(
            f"{where}: {len(values)} values with a window of {window}: median {first}: expected "
            f"{float(expected[first])!r}, got {float(found[first])!r}"
        )


def find_medians(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Returns the medians of all windows."""
    windows = np.lib.stride_tricks.sliding_window_view(values, window)
    middle = window // 2
    medians: NDArray[np.float64] = np.partition(windows, middle, axis=1)[:, middle]
    return medians

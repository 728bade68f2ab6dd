from __future__ import annotations

import math
import runpy
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evolve.problem import load_problem
from evolve.scoring import Infeasible

ROOT = Path(__file__).parents[2]
PROBLEM = ROOT / "problems" / "circle_packing"
EVALUATOR = runpy.run_path(str(ROOT / "evaluators" / "circle_packing.py"))
certify, evaluate = EVALUATOR["certify"], EVALUATOR["evaluate"]
NEXT_HALF = math.nextafter(0.5, 1.0)


class DirectProgram:
    """Returns a fixed reply, without any sandbox."""

    def __init__(self, reply: Any) -> None:
        self._reply = reply

    def call(self, function: str, count: int) -> Any:
        assert function == "pack"
        return self._reply


def grid(side: int) -> np.ndarray:
    """Equal circles that touch each other and the border; exact for powers of 2."""
    radius = 0.5 / side
    places = [(2 * i + 1) * radius for i in range(side)]
    return np.array([(x, y, radius) for x in places for y in places])


def is_exactly_feasible(circles: list[list[float]], shrinking: Fraction) -> bool:
    """A plain check in fractions, without square roots, independent of the evaluator."""
    rows = [[Fraction(x), Fraction(y), Fraction(r) - shrinking] for x, y, r in circles]
    inside = all(r <= min(x, y, 1 - x, 1 - y) and r > 0 for x, y, r in rows)
    return inside and all(
        (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 >= (a[2] + b[2]) ** 2
        for i, a in enumerate(rows)
        for b in rows[:i]
    )


@pytest.mark.parametrize("side", [1, 2, 4, 8])
def test_circles_that_only_touch_lose_nothing(side: int) -> None:
    certificate = certify(grid(side))
    assert certificate.total == side / 2
    assert certificate.shrinking == 0.0


def test_one_unit_in_the_last_place_too_much_is_taken_off_again() -> None:
    certificate = certify(np.array([[0.5, 0.5, NEXT_HALF]]))
    assert certificate.total == 0.5
    assert certificate.shrinking == NEXT_HALF - 0.5


def test_an_overlap_is_shared_by_all_circles() -> None:
    circles = np.array([[0.25, 0.5, 0.25], [0.75, 0.5, 0.25 - 2**-30], [0.1, 0.1, 0.05]])
    circles[1, 0] -= 2**-25
    certificate = certify(circles)
    shrinking = (2**-25 - 2**-30) / 2
    assert certificate.shrinking == shrinking
    assert certificate.total <= math.fsum(circles[:, 2]) - 3 * shrinking
    assert certificate.total == pytest.approx(math.fsum(circles[:, 2]) - 3 * shrinking, abs=1e-15)


def test_roots_are_rounded_against_the_program() -> None:
    # The distance is the square root of 2 over 4, which no fraction equals.
    radius = math.nextafter(math.sqrt(2.0) / 8.0, 1.0)
    circles = np.array([[0.25, 0.25, radius], [0.5, 0.5, radius]])
    certificate = certify(circles)
    assert 2 * (certificate.total / 2) ** 2 * 16 <= 1.0
    assert Fraction(certificate.total) ** 2 <= Fraction(1, 8)
    assert certificate.total == pytest.approx(math.sqrt(0.125), abs=1e-16)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0.5, 0.5, 0.0], r"^circle 1: expected a radius above 0, got 0$"),
        ([0.5, 0.5, -0.1], r"^circle 1: expected a radius above 0, got -0\.1$"),
        ([0.9, 0.5, 0.2], r"^circle 1 crosses the border: .* smaller by 0\.1; at most 1e-06"),
        ([-0.5, 0.5, 0.1], r"^circle 1 crosses the border: .* smaller by 0\.6"),
        ([0.2, 0.2, 0.1], r"^circles 0 and 1 overlap: .* smaller by 0\.1"),
        ([0.2, 0.4 - 4e-6, 0.1], r"^circles 0 and 1 overlap: .* smaller by 2e-06"),
    ],
)
def test_what_needs_more_repair_is_infeasible(row: list[float], message: str) -> None:
    with pytest.raises(Infeasible, match=message):
        certify(np.array([[0.2, 0.2, 0.1], row]))


def test_the_limit_of_the_repair_is_exact() -> None:
    above = float(np.nextafter(0.5 + 1e-6, 1.0))
    assert Fraction(above) - Fraction(1, 2) > Fraction(1, 10**6)
    with pytest.raises(Infeasible, match="crosses the border"):
        certify(np.array([[0.5, 0.5, above]]))
    below = float(np.nextafter(0.5 + 1e-6, 0.0))
    assert certify(np.array([[0.5, 0.5, below]])).total == 0.5


def test_a_circle_that_the_repair_makes_vanish_does_not_count() -> None:
    circles = np.array([[0.5, 0.5, 0.5 + 1e-7], [0.0, 0.0, 1e-8]])
    with pytest.raises(Infeasible, match="circle 1: no radius is left after the repair"):
        certify(circles)


def test_numbers_of_any_size_are_exact() -> None:
    tiny = 5e-324
    certificate = certify(np.array([[0.5, 0.5, 0.5], [1e-300, 1e-300, tiny]]))
    assert certificate.total == 0.5
    assert certificate.shrinking == 0.0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95)),
        min_size=1,
        max_size=6,
        unique=True,
    ),
    st.floats(0.5, 1.0),
    st.floats(-1e-6, 1e-7),
)
def test_what_is_certified_is_exactly_feasible_and_hardly_less(
    centers: list[tuple[float, float]], share: float, extra: float
) -> None:
    circles = []
    for i, (x, y) in enumerate(centers):
        near = [math.dist((x, y), other) for j, other in enumerate(centers) if j != i]
        radius = min(x, y, 1.0 - x, 1.0 - y, *(d * share for d in near)) + extra
        circles.append([x, y, radius])
    try:
        certificate = certify(np.array(circles))
    except Infeasible:
        assert not is_exactly_feasible(circles, Fraction(0))
        return
    shrinking = Fraction(certificate.shrinking)
    assert is_exactly_feasible(circles, shrinking)
    if shrinking:
        assert not is_exactly_feasible(circles, shrinking * Fraction(999, 1000))
    total = sum((Fraction(row[2]) for row in circles), Fraction(0)) - len(circles) * shrinking
    assert abs(total - Fraction(certificate.total)) < Fraction(1, 10**15)
    assert Fraction(certificate.total) <= sum((Fraction(r[2]) for r in circles), Fraction(0))


@pytest.mark.parametrize(
    "reply",
    [
        None,
        "circles",
        [[0.5, 0.5, 0.5], [0.1, 0.1, 0.01]],
        [[0.5, 0.5]],
        [[0.5, 0.5, "0.5"]],
        [[0.5, 0.5, True]],
        [[0.5, 0.5, math.nan]],
        [[0.5, 0.5, math.inf]],
        [[0.5, 0.5, 1e300]],
        np.array([[0.5, 0.5, 0.5]], dtype=object),
        np.array([[0.5, 0.5, 0.5]], dtype=complex),
        [0.5, 0.5, 0.5],
        {"circles": []},
    ],
)
def test_replies_of_another_form_are_infeasible(reply: Any) -> None:
    with pytest.raises(Infeasible, match=r"^pack"):
        evaluate(DirectProgram(reply), count=1)


def test_the_starting_program_is_plain_and_feasible() -> None:
    problem = load_problem(PROBLEM)
    pack = runpy.run_path(str(PROBLEM / "initial.py"))["pack"]
    score = evaluate(DirectProgram(pack(26)), **problem.parameters)
    assert 0.9 <= score.objective <= 1.0
    assert set(score.measures) == {measure.name for measure in problem.measures}
    assert score.artifacts["circles"].count("\n") == 25
    assert len(pack(32)) == 32


def test_a_grid_scores_its_sum_of_radii() -> None:
    score = evaluate(DirectProgram(grid(4).tolist()), count=16)
    assert score.objective == 2.0
    assert score.measures == {"radius_spread": 0.0, "border_share": 0.75}
    assert score.metrics["smallest_radius"] == 0.125

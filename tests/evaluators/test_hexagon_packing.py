import math
from fractions import Fraction

import numpy as np
import pytest
from hexagon_packing import Hexagon, certify, evaluate

from evolve.scoring import Infeasible
from tests.direct_program import reply_with

ROOT = math.sqrt(3.0)
# A hexagon and its six neighbours, side to side, with gaps of about 1e-9.
FLOWER = [(0.0, 0.0, 30.0), (0.0, 0.0, 0.0)] + [
    ((ROOT + 1e-9) * math.sin(k * math.pi / 3), (ROOT + 1e-9) * math.cos(k * math.pi / 3), 0.0)
    for k in range(6)
]


def test_a_hexagon_around_itself_has_side_one():
    side, stretch = certify(np.array([[2.0, 3.0, 10.0], [2.0, 3.0, 70.0]]))
    assert 0 <= side - 1 < Fraction(1, 10**50)
    assert stretch == 0


def test_a_turned_hexagon_needs_the_side_that_trigonometry_gives():
    side, _ = certify(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 30.0]]))
    assert float(side) == pytest.approx(2.0 / ROOT, abs=1e-15)


def test_corners_lie_at_the_angle_that_is_given():
    x, y = (value / 2**256 for value in Hexagon(37.5).corners[0])
    assert (x, y) == pytest.approx((math.cos(math.radians(37.5)), math.sin(math.radians(37.5))))


def test_a_flower_of_seven_counts_and_is_what_it_measures():
    # Centres at the distance sqrt(3) towards the outer corners, so 3/2 towards the sides.
    score = evaluate(reply_with(FLOWER), count=7)
    assert score.objective == pytest.approx((1.5 + 1.0) / (ROOT / 2), abs=2e-9)
    assert score.metrics["stretch"] == 0.0
    assert score.measures["alignment"] == pytest.approx(1.0)


def test_overlaps_by_rounding_are_stretched_apart_and_paid_for():
    rows = np.array(FLOWER)
    rows[2:, :2] *= 1 - 1e-8
    side, stretch = certify(rows)
    assert Fraction(9, 10**9) < stretch < Fraction(1, 10**8)
    assert side == pytest.approx(float(certify(np.array(FLOWER))[0]), abs=2e-9)


@pytest.mark.parametrize(
    "row", [(0.0, 0.0, 0.0), (0.5, 0.5, 12.0), (ROOT * (1 - 1e-5), 0.0, 30.0), (1.9, 0.0, 0.0)]
)
def test_hexagons_that_overlap_do_not_count(row):
    with pytest.raises(Infeasible, match=r"^hexagons 1 and 2 overlap"):
        certify(np.array([(0.0, 0.0, 0.0), (0.0, 0.0, row[2]), row]))


def test_huge_turns_are_reduced_exactly():
    first, second = (
        certify(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, turn]]))[0] for turn in (9963.25, 3.25)
    )
    assert first == second

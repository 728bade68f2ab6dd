from fractions import Fraction

import numpy as np
import pytest
from circle_packing_rectangle import certify, evaluate

from evolve.scoring import Infeasible
from tests.direct_program import reply_with

# Four circles of radius 1/4 fill the unit square.
FULL = np.array([(x, y, 0.25) for x in (0.25, 0.75) for y in (0.25, 0.75)])


def test_a_packing_that_just_fits_counts_as_it_is():
    assert certify(FULL) == (1, 1, 0)
    assert certify(FULL + np.array([3 / 8, -1 / 4, 0.0]))[0] == 1


def test_room_that_is_left_is_reported_and_not_paid():
    total, rescaled, shrinking = certify(FULL * 0.5)
    assert (total, rescaled, shrinking) == (Fraction(1, 2), 1, 0)


def test_a_perimeter_too_long_is_scaled_down():
    total, rescaled, _ = certify(FULL * (1 + 2**-30))
    assert total == rescaled == 1


def test_overlaps_are_repaired_by_the_least_shrinking():
    circles = FULL.copy()
    circles[:, 2] += 2.0**-30
    total, _, shrinking = certify(circles)
    assert shrinking == Fraction(1, 2**30)
    assert total == 1


@pytest.mark.parametrize(("factor", "message"), [(1 + 1e-5, "perimeter"), (1.1, "perimeter")])
def test_a_perimeter_4e_5_too_long_does_not_count(factor, message):
    with pytest.raises(Infeasible, match=message):
        certify(FULL * factor)


def test_a_tolerance_spent_on_purpose_does_not_count():
    with pytest.raises(Infeasible, match="overlap"):
        certify(FULL + np.array([0.0, 0.0, 1e-5]))


def test_the_box_is_measured_and_not_believed():
    score = evaluate(reply_with(FULL.tolist()), count=4)
    assert score.objective == 1.0
    assert score.artifacts["certified"] == "1.00000000000000000000"
    assert score.measures == {"radius_spread": 0.0, "flatness": 1.0}

import math

import numpy as np
import pytest
from minmax_distance_ratio import evaluate

from evolve.scoring import Infeasible
from tests.direct_program import reply_with


@pytest.mark.parametrize("scale", [1.0, 1e-150, 2.0**-500, 1e5])
def test_a_square_has_a_ratio_of_two_at_any_size(scale):
    points = [(0.0, 0.0), (scale, 0.0), (0.0, scale), (scale, scale)]
    score = evaluate(reply_with(points), count=4, dimensions=2)
    assert score.objective == 2.0
    assert score.artifacts["certified"] == "2.00000000000000000000"


def test_a_regular_tetrahedron_is_as_good_as_can_be():
    points = [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]
    score = evaluate(reply_with(points), count=4, dimensions=3)
    assert score.objective == 1.0
    assert score.measures == {"short_share": 1.0, "roundness": 1.0}


def test_the_objective_is_rounded_up():
    points = [(0.0, 0.0), (3.0, 0.0), (0.0, math.sqrt(11.0))]
    score = evaluate(reply_with(points), count=3, dimensions=2)
    exact = (9 + float(np.square(np.float64(11.0) ** 0.5))) / 9
    assert exact <= score.objective <= exact + 1e-15


def test_a_ratio_beyond_all_doubles_does_not_count():
    with pytest.raises(Infeasible, match="at most 1e\\+300"):
        evaluate(reply_with([(0.0, 0.0), (5e-324, 0.0), (1.0, 0.0)]), count=3, dimensions=2)


@pytest.mark.parametrize("twin", [(0.0, 0.0), (-0.0, 0.0)])
def test_equal_points_do_not_count(twin):
    with pytest.raises(Infeasible, match="expected different points"):
        evaluate(reply_with([(0.0, 0.0), (1.0, 0.0), twin]), count=3, dimensions=2)

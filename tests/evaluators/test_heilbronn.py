import math

import heilbronn_convex
import heilbronn_triangle
import numpy as np
import pytest
from points import double_hull_area, find_hull, find_smallest_triangle

from evolve.scoring import Infeasible
from tests.direct_program import reply_with

ROOT = math.sqrt(3.0)
SQUARE = [(0, 0), (4, 0), (4, 4), (0, 4)]


def test_hulls_leave_out_what_lies_inside_or_on_a_side():
    assert sorted(find_hull([*SQUARE, (2, 2), (2, 0), (0, 0)])) == sorted(SQUARE)
    assert double_hull_area([*SQUARE, (1, 3)]) == 32
    assert double_hull_area([(0, 0), (1, 1), (2, 2)]) == 0


def test_the_smallest_triangle_is_found_and_named():
    assert find_smallest_triangle([*SQUARE, (2, 1)]) == (4, (0, 1, 4))


def test_four_corners_of_a_square_give_a_half():
    score = heilbronn_convex.evaluate(reply_with(SQUARE), count=4)
    assert score.objective == 0.5
    assert score.measures == {"hull_share": 1.0, "roundness": 1.0}


def test_linear_maps_change_nothing():
    points = np.array([*SQUARE, (1, 2.5), (3, 0.5)], dtype=float)
    moved = points @ np.array([[3.0, 1.0], [0.5, 2.0]]) + [7.0, -2.0]
    scores = [heilbronn_convex.evaluate(reply_with(p), count=6).objective for p in (points, moved)]
    assert scores[0] == scores[1] > 0.0


def test_points_on_one_line_span_nothing():
    with pytest.raises(Infeasible, match="points on one line"):
        heilbronn_convex.evaluate(reply_with([(0, 0), (1, 1), (2, 2)]), count=3)


def triangle(points, kind="equilateral"):
    return heilbronn_triangle.evaluate(reply_with(points), count=len(points), triangle=kind)


def test_the_corners_of_a_right_triangle_are_the_whole():
    assert triangle([(0, 0), (1, 0), (0, 1)], "right").objective == 1.0


def test_the_nearest_double_below_the_top_lies_inside():
    top = math.sqrt(0.75)
    # This double lies above the root of 3/4, the next one below it.
    assert top * top != 0.75
    inside = math.nextafter(top, 0.0)
    score = triangle([(0, 0), (1, 0), (0.5, inside)])
    assert 1 - 1e-15 < score.objective < 1.0
    assert score.metrics["rescaled"] <= 1.0


def test_a_point_outside_is_repaired_by_a_larger_triangle():
    score = triangle([(0, 0), (1, 0), (0.5, 0.9 * ROOT / 2), (0.5, -1e-9)])
    same = triangle([(0, 0), (1, 0), (0.5, 0.9 * ROOT / 2), (0.5, 0.0)])
    assert score.objective == score.metrics["rescaled"]
    assert same.objective == 0.0 < score.objective < 1e-8


@pytest.mark.parametrize("point", [(0.5, -1e-5), (1.1, 0.0), (0.2, 0.5), (0.5, 0.87)])
def test_points_outside_do_not_count(point):
    with pytest.raises(Infeasible, match="inside the triangle"):
        triangle([(0, 0), (1, 0), (0.5, 0.86), point])


def test_one_point_alone_does_not_count():
    with pytest.raises(Infeasible, match="expected different points"):
        triangle([(0.25, 0.25)] * 4, "right")
    assert triangle([(0.25, 0.25)] * 4).objective == 0.0


def test_a_right_triangle_gives_the_same_as_an_equilateral_one():
    right = np.array([(0.25, 0.25), (0.5, 0.125), (0.125, 0.625), (0.0, 0.5), (0.75, 0.25)])
    equilateral = right @ np.array([[1.0, 0.0], [0.5, ROOT / 2]])
    assert triangle(right, "right").objective == pytest.approx(
        triangle(equilateral).objective, abs=1e-15
    )

import numpy as np
import pytest

from evolve.archive.archives import KINDS, Archive, Elite
from evolve.problem import Measure
from evolve.records import AttemptKey, Direction
from evolve.report.charts import EMPTY, LEVELS, draw_curve, find_levels, map_objectives, shrink

AXES = (Measure("a", 0.0, 4.0, 4), Measure("b", 0.0, 2.0, 2))


def archive_of(kind: str, places, direction=Direction.MAXIMIZE) -> Archive:
    """An archive with an elite of objective 1, 2, ... at each place."""
    archive = Archive(KINDS[kind](AXES), direction)
    for number, place in enumerate(places, start=1):
        key = AttemptKey(number, 0, 0)
        archive.add(Elite(key, "0" * 16, float(number), place, origin=0, depth=0, parent=None))
    return archive


def test_a_curve_is_drawn_as_steps_between_its_bounds():
    drawn = draw_curve([(0, 0.0), (5, 1.0)], width=4, height=2, bounds=(0.0, 1.0), end=10)
    assert drawn == ["⠀⢸⠉⠉", "⣀⣸⠀⠀"]


def test_a_curve_begins_where_its_first_point_is_and_holds_its_level():
    drawn = draw_curve([(5, 0.5)], width=4, height=1, bounds=(0.0, 1.0), end=10, level=1.0)
    assert drawn == ["⠁⠠⠥⠤"]


def test_what_is_out_of_bounds_is_drawn_at_the_edge_and_one_value_in_the_middle():
    assert draw_curve([(0, -9.0)], width=1, height=1, bounds=(0.0, 1.0), end=1) == ["⣀"]
    assert draw_curve([(0, 9.0)], width=1, height=1, bounds=(2.0, 2.0), end=1)[0] in "⠤⠒"
    assert draw_curve([], width=2, height=1, bounds=(0.0, 1.0), end=1) == ["⠀⠀"]


def test_a_map_has_the_best_objective_at_each_place_with_the_second_measure_upwards():
    archive = archive_of("grid", [(0.5, 0.5), (3.5, 0.5), (3.5, 1.5)])
    np.testing.assert_array_equal(
        map_objectives(archive, 0, 1), [[np.nan] * 3 + [3.0], [1.0, np.nan, np.nan, 2.0]]
    )
    np.testing.assert_array_equal(map_objectives(archive, 0, None), [[1.0, np.nan, np.nan, 3.0]])
    np.testing.assert_array_equal(map_objectives(archive, 1, 0)[0], [2.0, 3.0])


def test_an_archive_of_one_cell_is_a_map_of_one_place():
    archive = archive_of("single", [(0.5, 0.5), (3.5, 1.5)])
    np.testing.assert_array_equal(map_objectives(archive, 0, 1), [[2.0]])


@pytest.mark.parametrize(("sign", "best"), [(1.0, (0, 3)), (-1.0, (1, 0))])
def test_levels_are_ranks_over_all_maps_and_the_best_stands_out(sign, best):
    maps = [np.array([[np.nan, 2.0, 3.0, 100.0], [-5.0, 2.5, 2.6, 2.7]]), np.array([[1.0]])]
    first, second = find_levels(maps, sign)
    assert first[0][0] == EMPTY
    assert first[best[0]][best[1]] == LEVELS
    assert [level for line in first for level in line].count(LEVELS) == 1
    assert 0 <= second[0][0] < LEVELS
    assert find_levels([np.full((1, 2), np.nan)], sign) == [((EMPTY, EMPTY),)]


def test_a_map_that_is_too_large_keeps_the_best_of_what_it_joins():
    levels = [[0, 1, 2, 3], [EMPTY, EMPTY, EMPTY, 4], [1, 1, EMPTY, EMPTY]]
    assert shrink(levels, 3, 4) == tuple(map(tuple, levels))
    assert shrink(levels, 2, 2) == ((1, 4), (1, EMPTY))

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from evolve.archive.archives import KINDS, Archive, Elite
from evolve.problem import Measure
from evolve.records import AttemptKey, Direction, Plan, Status
from evolve.records.results import LightAttempt
from evolve.report.figures import (
    EMPTY,
    LEVELS,
    draw_archive,
    draw_braille,
    draw_curve,
    draw_front,
    draw_lineage,
    find_levels,
    map_objectives,
    shrink,
    standalone,
)
from evolve.report.history import AttemptRow
from evolve.search.curves import CurvePoint
from tests.builders import make_elite

AXES = (Measure("x", 0.0, 1.0, 4), Measure("y", 1.0, 100.0, 2, "log"))


def make_points(*objectives):
    return [
        CurvePoint(number, number * 2.0, number * 10, 0, 0, 0.0, make_elite(number, objective))
        for number, objective in enumerate(objectives)
    ]


def make_row(number, parent, objective, *, leads=False):
    key = AttemptKey(number, 0, 0)
    before = None if parent is None else AttemptKey(parent, 0, 0)
    plan = Plan("", operator="<m>")
    attempt = LightAttempt(
        key, 0, before, 0, plan, f"p{number}", None, Status.OK, objective, {}, {}
    )
    return AttemptRow(attempt, None, leads, "", number)


def test_a_curve_of_one_count_has_no_picture():
    assert draw_curve(make_points(1.0), "evaluations", {}) == ""


def test_a_level_curve_is_drawn():
    svg = draw_curve(make_points(5.0, 5.0), "seconds", {})
    assert "nan" not in svg
    assert ET.fromstring(svg).tag.endswith("svg")


def test_near_references_are_drawn_and_far_ones_left_out():
    svg = draw_curve(make_points(1.0, 2.0), "evaluations", {"best known": 3.0, "bound": 1000.0})
    assert "best known" in svg
    assert "bound" not in svg


def test_a_cell_shows_the_best_of_its_elites_and_the_best_cell_is_marked():
    elites = [make_elite(1, 5.0, 0.1, 2.0), make_elite(2, 3.0, 0.1, 2.0),
              make_elite(3, 4.0, 0.9, 50.0)]  # fmt: skip
    svg = draw_archive(elites, AXES, Direction.MINIMIZE)
    assert re.findall(r"<title>(.*?)</title>", svg) == ["2.0.0: 3", "3.0.0: 4"]
    assert re.search(r'class="cell mark"[^>]*><title>2.0.0', svg)


def test_an_archive_without_measures_has_no_picture():
    assert draw_archive([make_elite(1, 5.0)], (), Direction.MAXIMIZE) == ""


def test_the_family_shows_the_path_of_the_champion_and_links_to_attempts():
    rows = [make_row(0, None, 1.0), make_row(1, 0, 2.0), make_row(2, 0, 0.5), make_row(3, 1, 3.0)]
    svg = draw_lineage(rows, AttemptKey(3, 0, 0), Direction.MAXIMIZE, "/at/{key}")
    root = ET.fromstring(svg)
    kinds = [one.get("class") for one in root.iter() if one.get("class")]
    assert (kinds.count("path"), kinds.count("best"), kinds.count("edge")) == (2, 3, 1)
    assert 'href="/at/3.0.0"' in svg
    assert "&lt;m&gt;" in svg


def test_a_start_that_nothing_beats_has_no_family():
    rows = [make_row(0, None, 1.0)]
    assert draw_lineage(rows, AttemptKey(0, 0, 0), Direction.MAXIMIZE, "#{key}") == ""


def test_an_empty_front_has_no_picture_and_one_point_has():
    assert draw_front([], ("a", "b")) == ""
    assert "nan" not in draw_front([(1.0, 2.0)], ("a", "b"))


def test_a_picture_of_its_own_brings_its_style():
    svg = standalone(draw_curve(make_points(1.0, 2.0), "evaluations", {}))
    assert "<style>" in svg
    ET.fromstring(svg)


def test_axes_have_round_numbers_and_close_references_do_not_overlap():
    svg = draw_curve(
        make_points(0.95, 1.4, 2.2), "evaluations", {"baseline": 2.634, "best known": 2.636}
    )
    assert re.findall(r'text-anchor="end">([^<]+)<', svg) == ["1", "1.5", "2", "2.5"]
    places = re.findall(r'<text x="([\d.]+)" y="([\d.]+)"[^>]*>b', svg)
    assert len({y for _, y in places}) == 1
    assert len({x for x, _ in places}) == 2


GRID = (Measure("a", 0.0, 4.0, 4), Measure("b", 0.0, 2.0, 2))


def archive_of(kind: str, places, direction=Direction.MAXIMIZE) -> Archive:
    """An archive with an elite of objective 1, 2, ... at each place."""
    archive = Archive(KINDS[kind](GRID), direction)
    for number, place in enumerate(places, start=1):
        key = AttemptKey(number, 0, 0)
        archive.add(Elite(key, "0" * 16, float(number), place, origin=0, depth=0, parent=None))
    return archive


def test_a_curve_is_drawn_as_steps_between_its_bounds():
    drawn = draw_braille([(0, 0.0), (5, 1.0)], width=4, height=2, bounds=(0.0, 1.0), end=10)
    assert drawn == ["⠀⢸⠉⠉", "⣀⣸⠀⠀"]


def test_a_curve_begins_where_its_first_point_is_and_holds_its_level():
    drawn = draw_braille([(5, 0.5)], width=4, height=1, bounds=(0.0, 1.0), end=10, level=1.0)
    assert drawn == ["⠁⠠⠥⠤"]


def test_what_is_out_of_bounds_is_drawn_at_the_edge_and_one_value_in_the_middle():
    assert draw_braille([(0, -9.0)], width=1, height=1, bounds=(0.0, 1.0), end=1) == ["⣀"]
    assert draw_braille([(0, 9.0)], width=1, height=1, bounds=(2.0, 2.0), end=1)[0] in "⠤⠒"
    assert draw_braille([], width=2, height=1, bounds=(0.0, 1.0), end=1) == ["⠀⠀"]


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

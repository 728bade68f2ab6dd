import re
import xml.etree.ElementTree as ET

from evolve.population.curves import CurvePoint
from evolve.problem import Measure
from evolve.records import AttemptKey, Direction, Status
from evolve.report.figures import draw_archive, draw_curve, draw_front, draw_lineage, standalone
from evolve.report.timeline import AttemptRow
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
    return AttemptRow(
        key, f"p{number}", 0, before, Status.OK, objective, None, leads, "<m>", "", number
    )


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

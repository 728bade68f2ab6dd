import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.archive.cells import GridCells, OneCell, VoronoiCells, make_cells
from evolve.problem import Measure
from tests.searches import Searches, archives_of

AXES = (Measure("x", 0.0, 1.0, 4), Measure("y", 1.0, 1000.0, 3, "log"))
CHOICES = ("grid", "cvt", "single")
numbers = st.floats(allow_nan=False)


@given(st.sampled_from(CHOICES), numbers, numbers)
def test_every_point_however_far_outside_falls_into_a_cell(archive, x, y):
    cells = make_cells(archive, AXES)
    assert 0 <= cells.cell_of((x, y)) < cells.size


@given(numbers, numbers)
def test_points_outside_fall_into_the_cell_of_the_nearest_edge(x, y):
    inside = (min(max(x, 0.0), 1.0), min(max(y, 1.0), 1000.0))
    for cells in (GridCells(AXES), VoronoiCells(AXES, 30)):
        assert cells.cell_of((x, y)) == cells.cell_of(inside)


@given(st.floats(0, 1), st.floats(0, 3))
def test_a_point_belongs_to_its_nearest_centroid(x, power):
    cells = VoronoiCells(AXES, 25)
    point = np.array([x, math.log10(max(10.0**power, 1.0)) / 3.0])
    distances = np.linalg.norm(cells.centroids - point, axis=1)
    assert distances[cells.cell_of((x, 10.0**power))] == pytest.approx(distances.min())


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_voronoi_cells_are_of_about_equal_size(dimensions):
    cells = VoronoiCells([Measure(str(at), 0.0, 1.0, 1) for at in range(dimensions)], 20)
    points = np.random.default_rng(1).random((4000, dimensions))
    counts = np.bincount([cells.cell_of(point) for point in points], minlength=20)
    assert counts.min() > 0.3 * 200
    assert counts.max() < 2.5 * 200


def test_without_measures_there_is_one_cell_whatever_is_asked():
    for archive in CHOICES:
        assert isinstance(make_cells(archive, ()), OneCell)


def test_searches_in_voronoi_cells_resume_and_replay_exactly(tmp_path):
    searches = Searches(tmp_path, search__archive="cvt")
    whole = searches.run("whole", 14, threads=4)
    searches.run("parts", 5)
    searches.run("parts", 11)
    assert archives_of(searches.run("parts", 14)) == archives_of(whole)
    assert searches.replay("parts") == []
    assert all(archive.space.size == 200 for archive in whole.islands.archives)

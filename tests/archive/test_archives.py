import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.archive import AddStatus, Archive, Elite
from evolve.archive.archives import KINDS, GridCells, locate
from evolve.problem import Measure
from evolve.records import Direction
from tests.builders import make_elite

AXES = (Measure("x", 0.0, 1.0, 4), Measure("y", 1.0, 1000.0, 3, "log"))


numbers = st.floats(-10, 2000, allow_nan=False)


@given(st.lists(st.tuples(st.integers(0, 5), numbers, numbers)), st.sampled_from(Direction))
def test_replacement_equals_a_brute_force_oracle(offers, direction):
    archive = Archive(GridCells(AXES), direction)
    oracle: dict[int, Elite] = {}
    for number, (objective, x, y) in enumerate(offers):
        elite = make_elite(number, objective, x, y)
        cell = archive.space.cell_of(elite.measures)
        old = oracle.get(cell)
        status = archive.add(elite)
        if old is None or direction.is_better(objective, old.objective):
            oracle[cell] = elite
            assert status == (AddStatus.NEW if old is None else AddStatus.IMPROVED)
        else:
            assert status is AddStatus.NOT_ADDED
        signed = -direction.sign * archive.objectives
        assert list(archive.by_objective()) == list(np.argsort(signed, kind="stable"))
    assert dict(zip(archive.cells, archive.elites, strict=True)) == oracle
    assert list(archive.objectives) == [elite.objective for elite in archive.elites]
    if oracle:
        best = max(direction.sign * elite.objective for elite in oracle.values())
        assert archive.best is not None
        assert direction.sign * archive.best.objective == best


@given(numbers, numbers)
def test_every_point_falls_into_a_cell(x, y):
    archive = Archive(GridCells(AXES), Direction.MAXIMIZE)
    assert 0 <= archive.space.cell_of((x, y)) < archive.space.size


def test_logarithmic_ranges_are_cut_by_factors():
    archive = Archive(GridCells([AXES[1]]), Direction.MAXIMIZE)
    assert [archive.space.cell_of([value]) for value in (1.0, 9.0, 11.0, 99.0, 101.0, 1e9)] == [
        0,
        0,
        1,
        1,
        2,
        2,
    ]


def test_what_lies_outside_goes_to_the_edge_and_is_counted():
    archive = Archive(GridCells(AXES), Direction.MAXIMIZE)
    archive.add(make_elite(0, 1.0, -5.0, 10.0))
    archive.add(make_elite(1, 1.0, 0.9, 10.0))
    assert archive.out_of_range == 1
    assert archive.cells[0] == archive.space.cell_of((0.0, 10.0))


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_missing_or_infinite_measure_is_an_error(value):
    measures = {"x": 0.5} if value is None else {"x": 0.5, "y": value}
    with pytest.raises(ValueError, match="measure `y`: expected a finite number"):
        locate(AXES, measures)


def test_without_measures_there_is_a_single_cell():
    archive = Archive(GridCells(()), Direction.MINIMIZE)
    archive.add(make_elite(0, 3.0))
    archive.add(make_elite(1, 2.0))
    archive.add(make_elite(2, 2.5))
    assert [elite.objective for elite in archive.elites] == [2.0]
    assert archive.coverage == 1.0


def test_on_ties_the_earlier_elite_stays():
    archive = Archive(GridCells(AXES), Direction.MAXIMIZE)
    archive.add(make_elite(0, 1.0, 0.5, 10.0))
    assert not archive.add(make_elite(1, 1.0, 0.5, 10.0))
    assert archive.elites[0].key.generation == 0


CUT = (Measure("x", 0.0, 1.0, 4), Measure("y", 1.0, 1000.0, 3, "log"))
numbers = st.floats(allow_nan=False)


@given(st.sampled_from(list(KINDS)), numbers, numbers)
def test_every_point_falls_into_the_cell_of_the_nearest_one_inside(kind, x, y):
    cells = KINDS[kind](CUT)
    inside = (min(max(x, 0.0), 1.0), min(max(y, 1.0), 1000.0))
    assert 0 <= cells.cell_of((x, y)) == cells.cell_of(inside) < cells.size


def test_without_measures_there_is_one_cell_whatever_is_asked():
    assert {make([]).size for make in KINDS.values()} == {1}

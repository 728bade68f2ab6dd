import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.archive import AddStatus, Archive, Elite
from evolve.archive.archives import (
    KINDS,
    MAX_FRONT,
    FrontArchive,
    GridCells,
    Islands,
    crowding_distances,
    domination_depths,
    locate,
)
from evolve.archive.selection import make_lottery
from evolve.errors import ProblemError
from evolve.problem import Measure, load_problem
from evolve.records import Direction
from evolve.settings.sections import SearchSettings
from tests.builders import make_elite
from tests.commands import PROBLEM, run_evolve, run_json, write_problem
from tests.searches import Searches, archives_of

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


LINE = (Measure("x", 0.0, 10.0, 10),)


def make_islands(count: int, **changes) -> Islands:
    settings = SearchSettings(islands=count, **changes)
    return Islands(LINE, Direction.MAXIMIZE, settings)


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 99), st.floats(0, 10)), min_size=1),
)
def test_migration_copies_the_best_and_takes_no_elite_away(count, offers):
    islands = make_islands(count)
    islands.seed(make_elite(0, -1.0, 5.0))
    for number, (island, objective, x) in enumerate(offers, 1):
        islands.archives[island % count].add(
            make_elite(number, objective, x, island=island % count)
        )
    before = [{e.program_id for e in archive.elites} for archive in islands.archives]
    best = [archive.best for archive in islands.archives]
    islands.migrate()
    for island, archive in enumerate(islands.archives):
        assert {e.program_id for e in archive.elites} <= before[island] | before[island - 1]
        assert archive.best is not None
        assert archive.best.objective >= max(best[island].objective, best[island - 1].objective)


def test_migrants_keep_their_origin():
    islands = make_islands(3)
    islands.seed(make_elite(0, 0.0, 1.0))
    islands.archives[1].add(make_elite(7, 9.0, 2.0, island=1))
    islands.migrate()
    assert [elite.origin for elite in islands.archives[2].elites] == [0, 1]


def test_no_migrant_travels_twice_at_a_time():
    islands = make_islands(3)
    islands.seed(make_elite(0, 0.0, 1.0))
    islands.archives[0].add(make_elite(7, 9.0, 2.0))
    islands.migrate()
    held = [any(e.program_id == "p7" for e in archive.elites) for archive in islands.archives]
    assert held == [True, True, False]


def test_a_lone_island_sends_nobody_away():
    islands = make_islands(1)
    islands.seed(make_elite(0, 0.0, 1.0))
    assert islands.migrate() == 0


HALVES = (Measure("x", 0.0, 1.0, 2),)
TOML = (
    PROBLEM
    + """
[[objectives]]
name = "cost"
direction = "minimize"
"""
)


def make_costly(number: int, objective: float, cost: float, x: float = 0.1) -> Elite:
    return make_elite(number, objective, x, others=(cost,))


def make_archive() -> FrontArchive:
    return FrontArchive(GridCells(HALVES), Direction.MAXIMIZE, [Direction.MINIMIZE])


def dominates(one: Elite, other: Elite) -> bool:
    return one.objective >= other.objective and one.others[0] <= other.others[0]


few = st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from([0.1, 0.9]))


@given(st.lists(few, max_size=40))
def test_cells_hold_what_a_brute_force_oracle_keeps(offers):
    archive = make_archive()
    oracle: list[Elite] = []
    for number, offer in enumerate(offers):
        elite = make_costly(number, *map(float, offer))
        same = [one for one in oracle if one.measures == elite.measures]
        beaten = any(dominates(one, elite) for one in same)
        assert bool(archive.add(elite)) == (not beaten)
        if not beaten:
            oracle = [one for one in oracle if one not in same or not dominates(elite, one)]
            oracle.append(elite)
    assert {one.key for one in archive.elites} == {one.key for one in oracle}
    assert archive.objectives.tolist() == [one.objective for one in archive.elites]
    assert archive.coverage == len({one.measures for one in oracle}) / 2
    for elite, cell in zip(archive.elites, archive.cells, strict=True):
        assert cell == archive.space.cell_of(elite.measures)


def test_a_full_front_keeps_its_ends_and_spreads():
    archive = make_archive()
    for number in range(200):
        value = float((number * 37) % 200)
        archive.add(make_costly(number, value, value**2))
    values = sorted(elite.objective for elite in archive.elites)
    assert len(values) == MAX_FRONT
    assert (values[0], values[-1]) == (0.0, 199.0)
    assert archive.best.objective == 199.0


def test_equal_offers_leave_the_earlier_elite():
    archive = make_archive()
    assert archive.add(make_costly(0, 1.0, 1.0)) is AddStatus.NEW
    assert archive.add(make_costly(1, 1.0, 1.0)) is AddStatus.NOT_ADDED
    assert archive.add(make_costly(2, 2.0, 2.0)) is AddStatus.IMPROVED
    assert archive.add(make_costly(3, 2.0, 1.0)) is AddStatus.IMPROVED
    assert [elite.program_id for elite in archive.elites] == ["p3"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), max_size=25))
def test_depths_count_the_fronts_above(points):
    values = np.array(points, dtype=float).reshape(-1, 3)
    left, depth = set(range(len(values))), 0
    expected = np.zeros(len(values))
    while left:
        front = {
            at for at in left
            if not any((values[o] >= values[at]).all() and (values[o] > values[at]).any()
                       for o in left)
        }  # fmt: skip
        expected[list(front)] = depth
        left -= front
        depth += 1
    assert domination_depths(values).tolist() == expected.tolist()


def test_the_ends_of_a_front_are_never_crowded():
    distances = crowding_distances(np.array([[0.0, 4.0], [1.0, 3.0], [1.1, 2.9], [4.0, 0.0]]))
    assert np.isinf(distances[[0, 3]]).all()
    assert distances[1] == pytest.approx((1.1 + 1.1) / 4)


def test_elites_that_nothing_dominates_are_chosen_alike():
    archive = make_archive()
    for number, (objective, cost, x) in enumerate([(1, 1, 0.1), (3, 3, 0.1), (0, 2, 0.9)]):
        archive.add(make_costly(number, float(objective), float(cost), x))
    chances = make_lottery(archive, "boltzmann", entropy=0.5).probabilities
    assert chances[0] == pytest.approx(chances[1])
    assert chances[2] < chances[0]
    assert archive.ranked()[0].tolist() == [1, 0, 2]


def test_a_search_with_two_objectives_resumes_replays_and_keeps_a_front(tmp_path):
    searches = Searches(tmp_path, toml=TOML)

    def evaluate(program):
        import dataclasses

        verdict = searches.evaluate(program)
        return dataclasses.replace(verdict, metrics={"cost": len(program.entry.text) % 13})

    whole = searches.run("whole", 12, threads=4, evaluate=evaluate)
    searches.run("parts", 6, evaluate=evaluate)
    assert archives_of(searches.run("parts", 12, evaluate=evaluate)) == archives_of(whole)
    assert searches.replay("parts") == []
    front = whole.islands.front()
    assert front[0].objective == whole.champion.objective
    costs = [elite.others[0] for elite in front]
    assert costs == sorted(costs, reverse=True)


def test_the_command_reports_the_front(tmp_path):
    evaluator = """from evolve.scoring import Score, as_floats
def evaluate(program):
    first, second = as_floats(program.call("point"), (2,), where="point")
    return Score(first, metrics={"cost": first * first}, measures={"first": first})
"""
    folder = write_problem(tmp_path / "valley", toml=TOML, evaluator=evaluator)
    run_evolve("run", folder, "--generations", 4, "--run-dir", "r", cwd=tmp_path)
    state = run_json("show", "r", cwd=tmp_path)
    assert state["objectives"] == ["cost"]
    assert state["front"][0]["objective"] == state["champion"]["objective"]
    assert all(set(elite["others"]) == {"cost"} for elite in state["front"])
    assert "elites that nothing dominates" in run_evolve("show", "r", cwd=tmp_path).stdout
    head = run_evolve("archive", "r", cwd=tmp_path).stdout.splitlines()[0]
    assert head.split()[3:5] == ["objective", "cost"]
    (folder / "evaluator.py").write_text(evaluator.replace('"cost":', '"price":'))
    done = run_evolve("check", folder, cwd=tmp_path, code=2)
    assert "expected the objectives of problem.toml in metrics, missing: ['cost']" in done.stderr


@pytest.mark.parametrize("name", ["objective", "cost"])
def test_objectives_with_a_name_that_is_taken_are_refused(tmp_path, name):
    toml = TOML + f'\n[[objectives]]\nname = "{name}"\ndirection = "maximize"\n'
    folder = write_problem(tmp_path / "valley", toml=toml)
    with pytest.raises(ProblemError, match=r"expected (different names|a name other than)"):
        load_problem(folder)

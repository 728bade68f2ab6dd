"""What the population does with input that no run should meet, and some that every run does."""

import dataclasses
import math
import re
from contextlib import closing

import numpy as np
import pytest

from evolve.archive import AddStatus, Archive
from evolve.archive.archives import GridCells, Islands
from evolve.archive.selection import ParentSelector, make_lottery
from evolve.errors import ProblemError
from evolve.problem import Measure, load_problem
from evolve.records import Direction, Status
from evolve.report.overview import describe_run
from evolve.search.population import Population
from evolve.settings.sections import SearchSettings
from evolve.store import Store
from tests.builders import make_elite
from tests.commands import PROBLEM, run_evolve, write_problem
from tests.searches import Searches

AXES = (Measure("x", 0.0, 1.0, 4),)


def test_nothing_can_be_chosen_from_no_elites():
    archive = Archive(GridCells(AXES), Direction.MAXIMIZE)
    assert (len(archive), archive.best, archive.coverage) == (0, None, 0.0)
    with pytest.raises(ValueError, match="expected at least one elite to choose from, got none"):
        make_lottery(archive, "boltzmann", entropy=0.7)


@pytest.mark.parametrize("entropy", [0.0, 0.5, 1.0])
def test_equal_objectives_are_chosen_alike(entropy):
    archive = Archive(GridCells(AXES), Direction.MINIMIZE)
    for number in range(4):
        archive.add(make_elite(number, 7.0, number / 4 + 0.1))
    chances = make_lottery(archive, "boltzmann", entropy=entropy).probabilities
    assert chances.tolist() == pytest.approx([0.25] * 4)


@pytest.mark.parametrize("objectives", [[1e308, -1e308, 0.0], [5e-324, 0.0, -0.0], [1.0, 1.0, 2.0]])
def test_extreme_objectives_give_proper_chances(objectives):
    archive = Archive(GridCells(AXES), Direction.MAXIMIZE)
    for number, objective in enumerate(objectives):
        archive.add(make_elite(number, objective, number / 4 + 0.1))
    chances = make_lottery(archive, "boltzmann", entropy=0.6).probabilities
    assert np.isfinite(chances).all()
    assert chances.sum() == pytest.approx(1.0)


def test_a_single_cell_keeps_the_best_and_inspirations_come_from_other_islands():
    settings = SearchSettings(islands=2, archive="single")
    islands = Islands(AXES, Direction.MAXIMIZE, settings)
    islands.seed(make_elite(0, 0.0, 0.5))
    for number in range(1, 9):
        islands.archives[number % 2].add(make_elite(number, float(number), 0.5))
    assert islands.archives[0].space.size == 1
    selector = ParentSelector(
        islands, entropy=0.7, pool=[], signature_of=lambda _: np.zeros(64, np.uint32)
    )
    choice = selector.select(0, np.random.default_rng(0))
    assert choice.parent.program_id == "p8"
    assert [elite.program_id for elite in choice.inspirations] == ["p7"]


def test_duplicates_take_neither_place_nor_chances():
    archive = Archive(GridCells(AXES), Direction.MAXIMIZE)
    same = make_elite(0, 1.0, 0.5)
    statuses = {archive.add(same) for _ in range(100_000)}
    assert statuses == {AddStatus.NEW, AddStatus.NOT_ADDED}
    assert len(archive) == 1
    lottery = make_lottery(archive, "boltzmann", entropy=0.7)
    assert lottery.draw(np.random.default_rng(0)) == 0


def test_no_program_is_evaluated_twice_in_a_search(tmp_path):
    searches = Searches(tmp_path, search__strategy="best-of-n", tuning__share=0.0)
    found = searches.run("r", 40)
    with closing(Store.open_to_read(searches.folder / "r")) as store:
        told = list(store.light_attempts(1))
    marks = [item.fingerprint for item in told if item.status is not Status.REJECTED]
    assert len(set(marks)) > 0.9 * len(marks)
    assert found.evaluations < len(told)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_a_measure_that_is_no_number_stops_the_population_with_its_name(tmp_path, value):
    searches = Searches(tmp_path)
    verdict = searches.evaluate(searches.problem.initial)
    measures = {} if value is None else {"first": value}
    with pytest.raises(ValueError, match="measure `first`: expected a finite number"):
        searches.run("r", 1, evaluate=lambda _: dataclasses.replace(verdict, measures=measures))


def test_a_measure_that_an_evaluator_leaves_out_is_named(tmp_path):
    evaluator = "from evolve.scoring import Score\ndef evaluate(program):\n    return Score(1.0)\n"
    folder = write_problem(tmp_path / "bad", evaluator=evaluator)
    done = run_evolve("check", folder, cwd=tmp_path, code=2)
    assert "expected the measures declared in problem.toml, missing: ['first']" in done.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("low = -10.0", "low = 20.0"), "expected `low` below `high`, got 20 and 10"),
        (("low = -10.0", "low = 10.0"), "expected `low` below `high`, got 10 and 10"),
        (("low = -10.0", "low = -inf"), "expected a number that is finite, got -inf"),
        (("cells = 8", "cells = 0"), "`cells`: expected a whole number of at least 1, got 0"),
        (("cells = 8", "cells = 9000000"), "expected at most 1000000 cells"),
        (("cells = 8", 'scale = "log"'), "expected it above 0 for `log`"),
        (('name = "first"', 'name = "objective"'), "expected something other than the objective"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(tmp_path, change, words):
    folder = write_problem(tmp_path / "bad", toml=PROBLEM.replace(*change))
    with pytest.raises(ProblemError, match=re.escape(words)):
        load_problem(folder)


def test_what_lies_outside_is_kept_at_the_edge_and_reported(tmp_path):
    searches = Searches(tmp_path)

    def evaluate(program):
        return searches.verdict(program, searches.evaluate(program).objective, first=1e6)

    found = searches.run("r", 6, evaluate=evaluate)
    assert {cell for archive in found.islands.archives for cell in archive.cells} == {7}
    with closing(Store.open_to_read(searches.folder / "r")) as store:
        state = describe_run(searches.folder / "r", store, found)
    assert all(island["outside"] >= 1 for island in state["islands"])
    assert sum(island["outside"] for island in state["islands"]) > 4


def test_generations_are_told_in_order(problem):
    population = Population(load_problem(problem), SearchSettings())
    with pytest.raises(ValueError, match="generation: expected 0, got 3"):
        population.add(3, [])

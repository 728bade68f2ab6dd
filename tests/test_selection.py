import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evolve.archive import Archive, Elite
from evolve.archive.cells import GridCells
from evolve.archive.selection import TOURNAMENT_SIZE, make_lottery
from evolve.problem import Measure
from evolve.records import AttemptKey, Direction


def make_archive(objectives, direction=Direction.MAXIMIZE, children=()) -> Archive:
    archive = Archive(
        GridCells([Measure("x", 0.0, float(len(objectives)), len(objectives))]), direction
    )
    for number, objective in enumerate(objectives):
        key = AttemptKey(number, 0, 0)
        archive.add(Elite(key, str(number), objective, (number + 0.5,), 0, 0, None))
    for number, count in enumerate(children):
        for _ in range(count):
            archive.count_child(AttemptKey(number, 0, 0))
    return archive


def selection_probabilities(archive, *, entropy, visit_penalty, rule="boltzmann"):
    return make_lottery(archive, rule, entropy=entropy, visit_penalty=visit_penalty).probabilities


def normalised_entropy(probabilities) -> float:
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log(positive)).sum() / math.log(len(probabilities)))


distinct = st.lists(st.integers(-1000, 1000), min_size=3, max_size=60, unique=True)


@given(distinct, st.floats(0.1, 0.95))
def test_the_entropy_target_is_met_within_a_hundredth(objectives, target):
    archive = make_archive(objectives)
    probabilities = selection_probabilities(archive, entropy=target, visit_penalty=0.0)
    assert normalised_entropy(probabilities) == pytest.approx(target, rel=0.01)


@given(distinct, st.floats(0.05, 0.95), st.sampled_from(Direction))
def test_selection_is_invariant_under_increasing_transformations(objectives, target, direction):
    plain = make_archive([float(value) for value in objectives], direction)
    warped = make_archive([math.exp(value / 300.0) - 5.0 for value in objectives], direction)
    np.testing.assert_array_equal(
        selection_probabilities(plain, entropy=target, visit_penalty=0.5),
        selection_probabilities(warped, entropy=target, visit_penalty=0.5),
    )


@given(distinct, st.floats(0.1, 0.95), st.lists(st.integers(0, 40), max_size=60))
# Met by a narrow peak alone.
@example([0.0, 1.0, 3.0, 2.0], 0.7458523693776079, [11, 29, 35])
@example([0.0, 1.0, 2.0, 5.0, 4.0, 6.0, 3.0], 0.7051791489229067, [37, 34, 38, 19, 1, 35])
def test_with_visits_the_target_is_met_wherever_it_can_be(objectives, target, children):
    archive = make_archive(objectives, children=children[: len(objectives)])
    found = selection_probabilities(archive, entropy=target, visit_penalty=1.0)
    order, ranks = archive.ranked()
    weights = 1.0 / (1.0 + archive.children[order])
    grid = np.geomspace(1e-3, 1e7, 400)
    rows = np.exp(-np.outer(grid, ranks / ranks[-1])) * weights
    rows /= rows.sum(axis=1, keepdims=True)
    reachable = [normalised_entropy(row) for row in rows]
    if max(reachable) >= target:
        assert normalised_entropy(found) == pytest.approx(target, rel=0.01)
    else:
        assert normalised_entropy(found) == pytest.approx(max(reachable), rel=0.01)


@pytest.mark.parametrize("count", [300, 1000, 30_000])
@pytest.mark.parametrize("target", [0.3, 0.7, 0.95])
def test_the_target_is_met_in_large_archives_with_ties(count, target):
    rng = np.random.default_rng(count)
    archive = make_archive(rng.integers(0, count // 2, size=count).astype(float))
    archive.children[:] = rng.integers(0, 4, size=count)
    for penalty in (0.0, 0.5):
        found = selection_probabilities(archive, entropy=target, visit_penalty=penalty)
        assert normalised_entropy(found) == pytest.approx(target, rel=0.01)


@given(distinct, st.floats(0.05, 0.95))
def test_better_elites_are_never_less_likely(objectives, target):
    archive = make_archive(objectives)
    probabilities = selection_probabilities(archive, entropy=target, visit_penalty=0.0)
    order = np.argsort(archive.objectives)
    assert (np.diff(probabilities[order]) >= 0).all()
    assert probabilities.sum() == pytest.approx(1.0)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 50), min_size=5, max_size=5))
def test_the_visit_penalty_lowers_the_share_of_parents_with_many_children(children):
    archive = make_archive([1.0] * 5, children=children)
    probabilities = selection_probabilities(archive, entropy=0.7, visit_penalty=1.0)
    weights = 1.0 / (1.0 + np.array(children))
    np.testing.assert_allclose(probabilities, weights / weights.sum())


def test_equal_objectives_without_children_are_drawn_alike():
    probabilities = selection_probabilities(make_archive([2.0] * 4), entropy=0.3, visit_penalty=0.5)
    np.testing.assert_allclose(probabilities, 0.25)


def test_a_single_elite_is_always_drawn():
    lottery = make_lottery(make_archive([1.0]), "boltzmann", entropy=0.5, visit_penalty=0.5)
    assert lottery.draw(np.random.default_rng(0)) == 0


def test_the_extremes_are_greedy_and_uniform():
    archive = make_archive([1.0, 2.0, 3.0])
    greedy = selection_probabilities(archive, entropy=0.0, visit_penalty=0.0)
    uniform = selection_probabilities(archive, entropy=1.0, visit_penalty=0.0)
    np.testing.assert_allclose(greedy, [0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(uniform, 1 / 3, atol=1e-3)


def probabilities_by(rule, archive) -> list[float]:
    return selection_probabilities(archive, rule=rule, entropy=0.5, visit_penalty=0.5).tolist()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.sampled_from(Direction))
def test_a_tournament_is_won_as_often_as_its_simulation_says(objectives, direction):
    archive = make_archive([float(value) for value in objectives], direction)
    n, signed = len(objectives), [direction.sign * value for value in objectives]
    for value, chance in zip(signed, probabilities_by("tournament", archive), strict=True):
        not_above = sum(other <= value for other in signed) / n
        below = sum(other < value for other in signed) / n
        expected = not_above**TOURNAMENT_SIZE - below**TOURNAMENT_SIZE
        assert chance == pytest.approx(expected / signed.count(value))


def test_greedy_takes_the_earliest_of_the_best_and_uniform_any():
    archive = make_archive([1.0, 3.0, 3.0, 2.0])
    assert probabilities_by("greedy", archive) == [0.0, 1.0, 0.0, 0.0]
    assert probabilities_by("uniform", archive) == [0.25] * 4


def test_curiosity_prefers_cells_whose_offspring_are_taken():
    archive = make_archive([3.0, 2.0, 1.0])
    assert probabilities_by("curiosity", archive) == pytest.approx([1 / 3] * 3)
    for position, accepted in [(0, False), (2, True), (1, True), (1, False)]:
        archive.credit(position, accepted=accepted)
    first, second, third = probabilities_by("curiosity", archive)
    assert first < second < third


def test_the_curiosity_of_a_cell_outlasts_its_elite():
    archive = make_archive([1.0, 2.0])
    archive.credit(0, accepted=True)
    archive.add(Elite(AttemptKey(9, 0, 0), "new", 5.0, (0.5,), 0, 0, None))
    assert archive.curiosity.tolist() == [1.0, 0.0]
    assert archive.children.tolist() == [0.0, 0.0]

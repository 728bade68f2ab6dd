import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.archive import Archive, Elite
from evolve.archive.cells import GridCells
from evolve.archive.selection import TOURNAMENT_SIZE, make_lottery
from evolve.problem import Measure
from evolve.records import AttemptKey, Direction


def make_archive(objectives, direction=Direction.MAXIMIZE) -> Archive:
    archive = Archive(
        GridCells([Measure("x", 0.0, float(len(objectives)), len(objectives))]), direction
    )
    for number, objective in enumerate(objectives):
        key = AttemptKey(number, 0, 0)
        archive.add(Elite(key, str(number), objective, (number + 0.5,), 0, 0, None))
    return archive


def selection_probabilities(archive, *, entropy, rule="boltzmann"):
    return make_lottery(archive, rule, entropy=entropy).probabilities


def normalised_entropy(probabilities) -> float:
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log(positive)).sum() / math.log(len(probabilities)))


distinct = st.lists(st.integers(-1000, 1000), min_size=3, max_size=60, unique=True)


@given(distinct, st.floats(0.1, 0.95))
def test_the_entropy_target_is_met_within_a_hundredth(objectives, target):
    archive = make_archive(objectives)
    probabilities = selection_probabilities(archive, entropy=target)
    assert normalised_entropy(probabilities) == pytest.approx(target, rel=0.01)


@given(distinct, st.floats(0.05, 0.95), st.sampled_from(Direction))
def test_selection_is_invariant_under_increasing_transformations(objectives, target, direction):
    plain = make_archive([float(value) for value in objectives], direction)
    warped = make_archive([math.exp(value / 300.0) - 5.0 for value in objectives], direction)
    np.testing.assert_array_equal(
        selection_probabilities(plain, entropy=target),
        selection_probabilities(warped, entropy=target),
    )


@pytest.mark.parametrize("count", [300, 1000, 30_000])
@pytest.mark.parametrize("target", [0.3, 0.7, 0.95])
def test_the_target_is_met_in_large_archives_with_ties(count, target):
    rng = np.random.default_rng(count)
    archive = make_archive(rng.integers(0, count // 2, size=count).astype(float))
    found = selection_probabilities(archive, entropy=target)
    assert normalised_entropy(found) == pytest.approx(target, rel=0.01)


@given(distinct, st.floats(0.05, 0.95))
def test_better_elites_are_never_less_likely(objectives, target):
    archive = make_archive(objectives)
    probabilities = selection_probabilities(archive, entropy=target)
    order = np.argsort(archive.objectives)
    assert (np.diff(probabilities[order]) >= 0).all()
    assert probabilities.sum() == pytest.approx(1.0)


@given(st.lists(st.integers(0, 50), min_size=5, max_size=5))
def test_parents_with_many_children_are_less_likely(children):
    archive = make_archive([1.0] * 5)
    for at, count in enumerate(children):
        for _ in range(count):
            archive.record_child(AttemptKey(at, 0, 0))
    weights = 1.0 / np.sqrt(1.0 + np.array(children))
    found = selection_probabilities(archive, entropy=0.7)
    np.testing.assert_allclose(found, weights / weights.sum())


def test_equal_objectives_are_drawn_alike():
    probabilities = selection_probabilities(make_archive([2.0] * 4), entropy=0.3)
    np.testing.assert_allclose(probabilities, 0.25)


def test_a_single_elite_is_always_drawn():
    lottery = make_lottery(make_archive([1.0]), "boltzmann", entropy=0.5)
    assert lottery.draw(np.random.default_rng(0)) == 0


def test_the_extremes_are_greedy_and_uniform():
    archive = make_archive([1.0, 2.0, 3.0])
    greedy = selection_probabilities(archive, entropy=0.0)
    uniform = selection_probabilities(archive, entropy=1.0)
    np.testing.assert_allclose(greedy, [0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(uniform, 1 / 3, atol=1e-3)


def probabilities_by(rule, archive) -> list[float]:
    return selection_probabilities(archive, rule=rule, entropy=0.5).tolist()


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

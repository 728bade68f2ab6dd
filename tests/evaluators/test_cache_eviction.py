from pathlib import Path

import numpy as np
import pytest
from cache_eviction import bound_hits, draw_trace, evaluate, evaluate_holdout, play
from instances import TRAINING

from evolve.problem import load_problem
from evolve.scoring import Infeasible
from tests.direct_program import DirectProgram

PROBLEM = load_problem(Path(__file__).parents[2] / "problems" / "cache_eviction")
SMALL = {"seed": 1, "capacity": 40, "requests": 400}
RULES = {
    "first in first out": lambda _age, _count, stay, _gap: -stay,
    "least recently used": lambda age, _count, _stay, _gap: -age,
    "least frequently used": lambda _age, count, _stay, _gap: count,
}


def test_the_recorded_baseline_is_the_best_of_the_usual_rules_and_below_the_bound():
    assert PROBLEM.baseline is not None
    assert PROBLEM.bound is not None
    found = {
        name: evaluate(DirectProgram(priority=rule), **PROBLEM.parameters).objective
        for name, rule in RULES.items()
    }
    assert max(found.values()) == pytest.approx(PROBLEM.baseline.value, abs=1e-9)
    assert found["least recently used"] == pytest.approx(0.4128125, abs=1e-9)
    assert found["first in first out"] == pytest.approx(0.37975, abs=1e-9)
    capacity, requests = PROBLEM.parameters["capacity"], PROBLEM.parameters["requests"]
    bounds = [bound_hits(draw_trace(TRAINING, 0, n, requests), capacity) for n in range(4)]
    assert np.mean(bounds) == pytest.approx(PROBLEM.bound.value, abs=1e-9)


def test_belady_by_hand():
    assert bound_hits([1, 2, 3, 1, 2, 3], 2) == 2 / 6
    assert bound_hits([1, 2, 1, 2], 2) == 0.5


def test_a_rule_is_told_the_past_of_each_object():
    trace = [7, 8, 7, *range(100, 117), 8, 200]
    game = play(trace, 19)
    age, count, stay, gap = next(game)
    assert (age[0], count[0], stay[0], gap[0]) == (19.0, 2.0, 21.0, 2.0)
    assert (age[1], count[1], stay[1], gap[1]) == (1.0, 2.0, 20.0, 19.0)
    assert (age[2], count[2], stay[2], gap[2]) == (18.0, 1.0, 18.0, 18.0)


def test_what_leaves_is_what_has_the_lowest_priorities():
    game = play([*range(30), 0, 29], 30)
    with pytest.raises(StopIteration) as end:
        next(game)
    assert end.value.value[0] == 2 / 32
    game = play([*range(31), 0, 30], 30)
    age, *_ = next(game)
    with pytest.raises(StopIteration) as end:
        game.send(-age)
    assert end.value.value[0] == 1 / 33


def test_changing_the_arrays_changes_nothing():
    def rule(age, count, stay, gap):
        result = -age.copy()
        for array in (age, count, stay, gap):
            array[:] = 0.0
        return result

    plain = DirectProgram(priority=RULES["least recently used"])
    assert evaluate(DirectProgram(priority=rule), **SMALL) == evaluate(plain, **SMALL)
    assert evaluate_holdout(plain, **SMALL) != evaluate_holdout(plain, **SMALL)


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), True, "1", None])
def test_priorities_are_checked_strictly(value):
    with pytest.raises(Infeasible, match=r"^priority at request"):
        evaluate(DirectProgram(priority=lambda age, *_rest: [value] * len(age)), **SMALL)

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from instances import TRAINING
from signal_filter import (
    MAX_LAG,
    PREFERENCES,
    WINDOW,
    draw_signal,
    evaluate,
    evaluate_holdout,
    find_lag,
    find_volume,
    run,
)

from evolve.problem import load_problem
from evolve.scoring import Infeasible
from tests.direct_program import DirectProgram

PROBLEM = load_problem(Path(__file__).parents[2] / "problems" / "signal_filter")
SMALL = {"seed": 0, "samples": 40}


def smooth_exponentially(window, preference):
    weights = (0.1 + 0.8 * preference) ** np.arange(len(window))[::-1]
    return (window * weights).sum() / weights.sum()


def score(rule, **parameters):
    return evaluate(DirectProgram(smooth=rule), **(parameters or SMALL))


def test_the_recorded_baseline_is_exponential_smoothing():
    assert PROBLEM.baseline is not None
    found = score(smooth_exponentially, **PROBLEM.parameters)
    assert found.objective == pytest.approx(PROBLEM.baseline.value, abs=1e-8)
    assert {objective.name for objective in PROBLEM.objectives} <= set(found.metrics)


def test_the_noisy_signal_itself_is_worth_nothing():
    result = score(lambda window, _preference: window[-1])
    assert result.objective == 0.0
    assert [result.metrics[name] for name in ("error", "roughness")] == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("value", [0.0, 1e6])
def test_a_constant_is_smooth_and_worth_nothing(value):
    result = score(lambda _window, _preference: value)
    assert result.objective == 0.0
    assert result.metrics["roughness"] == 0.0


@pytest.mark.parametrize("delay", range(MAX_LAG + 1))
def test_lags_are_measured_in_samples(delay):
    clean = np.sin(np.arange(200) / 9.0)
    assert find_lag(clean[WINDOW - delay : 200 - delay], clean) == pytest.approx(delay, abs=0.05)


def test_volumes_by_hand():
    assert find_volume(np.array([[0.5, 0.5, 0.5]])) == 0.125
    assert find_volume(np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]])) == 1.0
    assert find_volume(np.array([[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]])) == 0.75
    assert find_volume(np.array([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]])) == 0.0


@given(st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=5))
def test_volumes_are_counts_of_dominated_cells(points):
    cells = sum(
        any(x >= a and y >= b and z >= c for a, b, c in points)
        for x in range(5)
        for y in range(5)
        for z in range(5)
    )
    assert find_volume(np.array(points) / 5.0) == pytest.approx(cells / 125)


def test_no_sample_is_told_before_it_comes():
    clean, noisy = draw_signal(TRAINING, 0, 0, 20)
    game = run(clean, noisy, 0.5)
    window, preference = next(game)
    for now in range(WINDOW, len(noisy) - 1):
        assert np.array_equal(window, noisy[now - WINDOW + 1 : now + 1])
        assert preference == 0.5
        window, preference = game.send(0.0)


def test_all_preferences_are_asked_for():
    seen = set()
    score(lambda _window, preference: seen.add(preference) or 0.0)
    assert seen == set(PREFERENCES)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e7, True, "1", None, [1.0]])
def test_estimates_are_checked_strictly(value):
    with pytest.raises(Infeasible, match=r"^smooth at sample 0"):
        score(lambda _window, _preference: value)


def test_the_hold_out_is_another_draw():
    program = DirectProgram(smooth=smooth_exponentially)
    held = evaluate_holdout(program, **SMALL)
    assert held != evaluate_holdout(program, **SMALL)
    assert held.objective != evaluate(program, **SMALL).objective

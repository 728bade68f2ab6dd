import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from oven_settings import RANGES, Oven, evaluate, evaluate_holdout, simulate

from evolve.problem import load_problem
from evolve.scoring import Infeasible

FOLDER = Path(__file__).parents[2] / "problems/oven_settings"
PLAIN = {"gain": 1 / 40.6, "integral_seconds": 100.0, "derivative_seconds": 5.0}
PLAIN |= {"setpoint_weight": 1.0, "filter_seconds": 2.0, "feed_forward": 0.0}


def score(settings, function=evaluate):
    text = settings if isinstance(settings, str) else json.dumps(settings)
    return function(SimpleNamespace(files={"settings.json": text}), seed=0, ovens=8)


def test_the_baseline_is_what_plain_settings_reach_and_the_start_is_worse():
    problem = load_problem(FOLDER)
    assert score(PLAIN).objective == pytest.approx(problem.baseline.value, abs=1e-6)
    assert score(problem.initial.entry.text).objective > problem.baseline.value


def test_without_power_the_error_is_that_of_a_cold_oven():
    cold = {**PLAIN, "gain": 0.0}
    expected = (700 * 160 + 800 * 100) / 1500
    assert simulate(cold, Oven(1.0, 200.0, 10)).cost == pytest.approx(expected)


def test_the_hold_out_has_other_ovens():
    found = score(PLAIN, evaluate_holdout)
    assert found.instances.keys() == score(PLAIN).instances.keys()
    assert found.objective != score(PLAIN).objective


@pytest.mark.parametrize(
    "settings",
    [
        "{",
        "[" * 100_000,
        "[]",
        "NaN",
        {**PLAIN, "gain": float("nan")},
        {**PLAIN, "gain": True},
        {**PLAIN, "gain": "0.1"},
        {**PLAIN, "gain": 2.0},
        {**PLAIN, "more": 1.0},
        dict.fromkeys(list(RANGES)[1:], 1.0),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_not_such_an_object_is_infeasible(settings):
    with pytest.raises(Infeasible, match=r"^settings\.json: "):
        score(settings)

from pathlib import Path

import numpy as np
import pytest
from instances import HOLDOUT, TRAINING
from online_bin_packing import Packing, draw_packing, evaluate, evaluate_holdout, find_excess, pack

from evolve.problem import load_problem
from evolve.scoring import Infeasible
from tests.direct_program import DirectProgram

ROOT = Path(__file__).parents[2]
SMALL = {"distribution": "weibull", "seed": 3, "instances": 2, "items": 40}


def best_fit(item, bins):
    return item - bins


def score(rule, **parameters):
    return evaluate(DirectProgram(priority=rule), **(parameters or SMALL))


@pytest.mark.parametrize(
    ("name", "first_fit"), [("online_bin_packing", 5.946482), ("online_bin_packing_or3", 5.429418)]
)
def test_the_recorded_baselines_are_what_best_and_first_fit_give(name, first_fit):
    problem = load_problem(ROOT / "problems" / name)
    assert problem.baseline is not None
    best = score(best_fit, **problem.parameters)
    first = score(lambda _item, bins: np.zeros(len(bins)), **problem.parameters)
    assert best.objective == pytest.approx(problem.baseline.value, abs=1e-6)
    assert first.objective == pytest.approx(first_fit, abs=1e-6)


def test_a_full_example_is_packed_as_by_hand():
    packing = Packing((60, 50, 40, 50), 100)
    pack(DirectProgram(priority=lambda _item, bins: np.zeros(len(bins))), [packing])
    assert packing.room == [0, 0]
    assert packing.excess() == 0.0


def test_the_excess_is_that_of_all_bins_together():
    packings = [Packing((100,), 100, [0, 100]), Packing((100, 100, 100), 100, [0, 0, 0])]
    assert find_excess(packings) == 25.0


def test_ties_go_to_the_bin_opened_first():
    packing = Packing((30,), 100, room=[10, 50, 70])
    seen = []

    def rule(item, bins):
        seen.append(bins.tolist())
        return [1, 1, 0]

    pack(DirectProgram(priority=rule), [packing])
    assert seen == [[50.0, 70.0, 100.0]]
    assert packing.room == [10, 20, 70]


@pytest.mark.parametrize(
    ("distribution", "low", "high", "mean"), [("weibull", 1, 100, 40.2), ("uniform", 20, 100, 60.0)]
)
def test_sizes_depend_on_the_key_and_stay_in_range(distribution, low, high, mean):
    def draw(split, seed, number):
        return draw_packing(distribution, split, seed, number, 500).items

    items = draw(TRAINING, 0, 0)
    assert items == draw(TRAINING, 0, 0)
    assert len({items, draw(TRAINING, 1, 0), draw(TRAINING, 0, 1), draw(HOLDOUT, 0, 0)}) == 4
    assert all(type(item) is int and low <= item <= high for item in items)
    assert np.mean(items) == pytest.approx(mean, abs=3.0)


def test_a_new_bin_for_every_item_is_the_worst_rule():
    result = score(lambda _item, bins: bins)
    assert result.metrics["bins"] == 80.0
    assert result.objective > 100.0


def test_the_hold_out_has_instances_of_its_own():
    program = DirectProgram(priority=best_fit)
    held = evaluate_holdout(program, **SMALL)
    assert held != evaluate_holdout(program, **SMALL)
    assert held.metrics["bins"] > score(best_fit).metrics["bins"]
    assert "validation" not in held.metrics


@pytest.mark.parametrize(
    "reply",
    [
        None,
        0.0,
        "high",
        [],
        [1.0] * 1000,
        np.zeros((1, 1)),
        np.full(1, np.nan),
        np.array([np.inf]),
        np.array([True]),
        np.array([1j]),
        np.array(["1"]),
        [True],
        ["1"],
        [None],
    ],
)
def test_priorities_are_checked_strictly(reply):
    with pytest.raises(Infeasible, match=r"^priority at item 0"):
        score(lambda _item, _bins: reply)


def test_changing_the_array_does_not_change_the_bins():
    def rule(item, bins):
        priorities = item - bins
        bins[:] = 100.0
        return priorities

    assert score(rule) == score(best_fit)

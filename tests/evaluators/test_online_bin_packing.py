from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from evolve.problem import load_problem
from evolve.scoring import Infeasible

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
EVALUATOR = runpy.run_path(str(ROOT / "evaluators" / "online_bin_packing.py"))
evaluate, draw_items, Packing = (EVALUATOR[name] for name in ("evaluate", "draw_items", "Packing"))
SMALL = {"seed": 3, "instances": 2, "items": 40}


class DirectProgram:
    """Calls a rule without any sandbox."""

    def __init__(self, rule: Callable[..., Any]) -> None:
        self._rule = rule

    def call_many(self, function: str, argument_lists: list[Any]) -> list[Any]:
        assert function == "priority"
        return [self._rule(*arguments) for arguments in argument_lists]


def best_fit(item: float, bins: Any) -> Any:
    return item - bins


def test_the_recorded_baselines_are_what_best_and_first_fit_give() -> None:
    problem = load_problem(ROOT / "problems" / "online_bin_packing")
    assert problem.baseline is not None
    best = evaluate(DirectProgram(best_fit), **problem.parameters)
    first = evaluate(DirectProgram(lambda _item, bins: np.zeros(len(bins))), **problem.parameters)
    assert best.objective == pytest.approx(problem.baseline.value, abs=1e-6)
    assert first.objective == pytest.approx(5.5942, abs=1e-4)


def test_the_starting_program_can_be_improved_by_a_constant() -> None:
    problem = load_problem(ROOT / "problems" / "online_bin_packing")
    rule = runpy.run_path(str(ROOT / "problems" / "online_bin_packing" / "initial.py"))
    score = evaluate(DirectProgram(rule["priority"]), **problem.parameters)
    assert 12.0 < score.objective < 13.0
    assert set(score.measures) == {measure.name for measure in problem.measures}


def test_a_full_example_is_packed_as_by_hand() -> None:
    packing = Packing((60, 50, 40, 50))
    for item in packing.items:
        choices = packing.choices(item)
        packing.put(item, choices[0])
    assert packing.room == [0, 0]
    assert packing.excess() == 0.0


def test_ties_go_to_the_bin_opened_first() -> None:
    packing = Packing((30,), room=[10, 50, 70])
    assert packing.choices(30) == [1, 2, 3]
    seen: list[list[float]] = []

    def rule(item: float, bins: Any) -> Any:
        seen.append(bins.tolist())
        return [1, 1, 0]

    EVALUATOR["place_items"](DirectProgram(rule), [packing], 0)
    assert seen == [[50.0, 70.0, 100.0]]
    assert packing.room == [10, 20, 70]


def test_instances_depend_on_the_seed_and_have_sizes_within_the_capacity() -> None:
    items = draw_items(0, 0, 500)
    assert items == draw_items(0, 0, 500)
    assert len({items, draw_items(1, 0, 500), draw_items(0, 1, 500)}) == 3
    assert all(type(item) is int and 1 <= item <= 100 for item in items)
    assert np.mean(items) == pytest.approx(40.2, abs=1.5)


def test_a_new_bin_for_every_item_is_the_worst_rule() -> None:
    score = evaluate(DirectProgram(lambda _item, bins: bins), **SMALL)
    assert score.metrics["bins"] == 80.0
    assert score.objective > 100.0


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
def test_priorities_are_checked_strictly(reply: Any) -> None:
    with pytest.raises(Infeasible, match=r"^priority at item 0"):
        evaluate(DirectProgram(lambda _item, _bins: reply), **SMALL)


def test_changing_the_array_does_not_change_the_bins() -> None:
    def rule(item: float, bins: Any) -> Any:
        priorities = item - bins
        bins[:] = 100.0
        return priorities

    assert evaluate(DirectProgram(rule), **SMALL) == evaluate(DirectProgram(best_fit), **SMALL)

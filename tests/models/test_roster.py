import numpy as np
import pytest

from evolve.models.roster import ModelStats, draw_by_weight
from evolve.records.results import ModelUse
from evolve.settings.sections import Candidate

A, B = Candidate("a"), Candidate("b")


def play(
    gains: dict[str, float],
    costs: dict[str, float | None],
    *,
    slots: int = 400,
    scale: float = 1.0,
) -> list[str]:
    """Returns the choices of an editor whose models gain with the given chances."""
    stats, chosen = ModelStats(), []
    for slot in range(slots):
        rng = np.random.default_rng([1, slot])
        model = stats.choose("editor", [A, B], rng)
        gained = rng.random() < gains[model]
        uses = [ModelUse("editor", model, costs[model], 1000)]
        stats.record(uses, scale * rng.random() if gained else -scale)
        chosen.append(model)
    return chosen


def test_a_model_that_gains_more_is_chosen_more_but_the_other_is_not_given_up():
    chosen = play({"a": 0.4, "b": 0.05}, {"a": 1.0, "b": 1.0})[100:]
    assert 0.65 < chosen.count("a") / 300 < 0.99


def test_of_two_equals_the_cheaper_is_chosen_more():
    gains = {"a": 0.2, "b": 0.2}
    shares = [play(gains, {"a": 1.0, "b": cost})[100:].count("a") / 300 for cost in (1.0, 10.0)]
    assert shares[0] < 0.7 < shares[1]


def test_the_scale_of_the_objective_does_not_matter():
    costs = {"a": 1.0, "b": 2.0}
    choices = play({"a": 0.1, "b": 0.3}, costs, slots=150)
    assert choices == play({"a": 0.1, "b": 0.3}, costs, slots=150, scale=1e9)


def test_a_model_that_gets_better_is_found_again():
    stats, chosen = ModelStats(), []
    for slot in range(600):
        rng = np.random.default_rng([2, slot])
        model = stats.choose("editor", [A, B], rng)
        good = "a" if slot < 300 else "b"
        stats.record([ModelUse("editor", model, 1.0, 10)], rng.random() - 0.5 * (model != good))
        chosen.append(model)
    assert chosen[500:].count("b") > 60


def test_a_model_for_nothing_does_not_divide_by_zero():
    chosen = play({"a": 0.2, "b": 0.2}, {"a": 0.0, "b": 1.0}, slots=60)
    assert set(chosen) == {"a", "b"}


@pytest.mark.parametrize("role", ["editor", "summarizer"])
def test_without_experience_choices_follow_the_weights(role):
    heavy = [Candidate("a", 3.0), B]
    stats = ModelStats()
    draws = [stats.choose(role, heavy, np.random.default_rng(seed)) for seed in range(300)]
    assert 0.6 < draws.count("a") / 300 < 0.92
    even = [draw_by_weight(heavy, np.random.default_rng(seed)) for seed in range(300)]
    assert 0.65 < even.count("a") / 300 < 0.85

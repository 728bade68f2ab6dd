from pathlib import Path

import numpy as np
import pytest
from cfr_variants import evaluate, evaluate_holdout, normalise, open_game, read_reply, solve
from games import Tree, roll_liars_dice

from evolve.problem import load_problem
from evolve.scoring import Infeasible
from tests.direct_program import DirectProgram

PROBLEM = load_problem(Path(__file__).parents[2] / "problems" / "cfr_variants")


def plain(regrets, memory, instant, legal, iteration):
    total = regrets + instant
    return total, memory, np.maximum(total, 0.0), 1.0


def plus(regrets, memory, instant, legal, iteration):
    total = np.maximum(regrets + instant, 0.0)
    return total, memory, total, float(iteration)


def discounted(regrets, memory, instant, legal, iteration):
    power = float(iteration) ** 1.5
    total = regrets * np.where(regrets > 0.0, power / (power + 1.0), 0.5) + instant
    return total, memory, np.maximum(total, 0.0), float(iteration) ** 2


def predictive(regrets, memory, instant, legal, iteration):
    total = np.maximum(regrets + instant, 0.0)
    return total, memory, np.maximum(total + instant, 0.0), float(iteration) ** 2


def run(rule, name="kuhn", size=3, iterations=60):
    game, value = solve(open_game(name, size), iterations), None
    try:
        while True:
            value = rule(*game.send(value))
    except StopIteration as end:
        return end.value


@pytest.mark.parametrize(
    ("name", "size", "sets", "exploitability"),
    [
        # The first two as in OpenSpiel (Lanctot 2019), whose figure is that of both players.
        ("kuhn", 3, 12, 0.916666666666667 / 2),
        ("leduc", 3, 288, 4.747222222222222 / 2),
        ("dice", 3, 192, 0.7182098765432099),
    ],
)
def test_random_play_is_as_exploitable_as_is_known(name, size, sets, exploitability):
    tree = open_game(name, size)
    policies = [normalise(np.zeros_like(legal), legal) for legal in tree.legal]
    assert sum(map(len, policies)) == sets
    assert tree.find_exploitability(policies) == pytest.approx(exploitability, abs=1e-12)


def test_the_equilibrium_of_kuhn_poker_cannot_be_exploited():
    tree = open_game("kuhn", 3)
    policies = [normalise(np.zeros_like(legal), legal) for legal in tree.legal]
    average, _ = run(plus, iterations=400)
    assert average < 1e-3
    # The value of the game is -1/18 for the first player.
    values = [tree.best_response(policies, player) for player in (0, 1)]
    assert values[0] > -1 / 18
    assert values[1] > 1 / 18


@pytest.mark.parametrize(
    ("rule", "worse"), [(plus, plain), (discounted, plain), (predictive, plain)]
)
def test_later_variants_beat_the_first(rule, worse):
    assert run(rule)[0] < run(worse)[0]


def test_the_recorded_values_are_those_of_the_published_variants():
    assert PROBLEM.baseline is not None
    assert PROBLEM.best_known is not None
    recorded = {plus: PROBLEM.baseline.value, predictive: PROBLEM.best_known.value}
    for rule, value in recorded.items():
        score = evaluate(DirectProgram(update=rule), **PROBLEM.parameters)
        assert score.objective == pytest.approx(value, abs=1e-6)


def test_regrets_are_counterfactual_and_weighted_policies_have_none():
    tree = open_game("leduc", 3)
    policies = [normalise(legal * np.arange(1.0, 4.0), legal) for legal in tree.legal]
    for player in (0, 1):
        regrets, reached = tree.find_regrets(policies, player)
        assert 0.0 < reached.min() < reached.max() == 1.0
        assert np.abs((regrets * policies[player]).sum(axis=1)).max() < 1e-12
        assert not regrets[tree.legal[player] == 0.0].any()


def test_numbers_of_sets_and_actions_are_shuffled_and_change_no_result():
    shuffled, plain_tree = open_game("dice", 3), Tree(roll_liars_dice(3))
    assert not np.array_equal(shuffled.legal[0], plain_tree.legal[0])
    assert sorted(shuffled.legal[0].sum(axis=1)) == sorted(plain_tree.legal[0].sum(axis=1))
    found = []
    for tree in (shuffled, plain_tree):
        policies = [normalise(np.zeros_like(legal), legal) for legal in tree.legal]
        regrets, _ = tree.find_regrets(policies, 0)
        found.append((tree.find_exploitability(policies), np.sort(regrets, axis=None)))
    assert found[0][0] == pytest.approx(found[1][0])
    assert found[0][1] == pytest.approx(found[1][1], abs=1e-12)


def test_the_hold_out_has_larger_games():
    held = evaluate_holdout(DirectProgram(update=plain), iterations=2)
    assert set(held.metrics) == {"kuhn_6", "leduc_4", "dice_4"}


LEGAL = np.array([[1.0, 1.0], [1.0, 0.0]])


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (None, "expected `regrets, memory, weights, share`"),
        ((LEGAL, LEGAL, LEGAL), "expected `regrets, memory, weights, share`"),
        ((LEGAL, LEGAL, -LEGAL, 1.0), "at least 0"),
        ((LEGAL, LEGAL, LEGAL, -1.0), "at least 0"),
        ((LEGAL, LEGAL, LEGAL, float("nan")), "share"),
        ((LEGAL, LEGAL, LEGAL, True), "share"),
        ((LEGAL, LEGAL + np.inf, LEGAL, 1.0), "memory"),
        ((LEGAL[:1], LEGAL, LEGAL, 1.0), "regrets"),
        ((LEGAL * 1e13, LEGAL, LEGAL, 1.0), "regrets"),
        ((LEGAL, LEGAL, LEGAL.astype(object), 1.0), "weights"),
    ],
)
def test_replies_are_checked_strictly(reply, message):
    with pytest.raises(Infeasible, match=message):
        read_reply(reply, LEGAL, "update")


def test_weights_of_actions_that_are_not_legal_count_nothing():
    policy = normalise(np.array([[0.0, 0.0], [1.0, 5.0]]), LEGAL)
    assert policy.tolist() == [[0.5, 0.5], [1.0, 0.0]]


def test_changing_the_arguments_changes_nothing():
    def rule(regrets, memory, instant, legal, iteration):
        reply = plus(regrets, memory, instant, legal, iteration)
        for array in (regrets, instant, legal):
            array[:] = 7.0
        return reply

    scores = [evaluate(DirectProgram(update=r), iterations=3) for r in (rule, plus)]
    assert scores[0] == scores[1]

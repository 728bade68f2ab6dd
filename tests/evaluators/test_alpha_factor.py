from pathlib import Path

import numpy as np
import pytest
from alpha_factor import (
    ASSETS,
    HORIZON,
    WINDOW,
    correlate,
    draw_market,
    evaluate,
    evaluate_holdout,
    expect,
    rank,
    trade,
)
from instances import TRAINING

from evolve.problem import load_problem
from evolve.scoring import Infeasible
from tests.direct_program import DirectProgram

PROBLEM = load_problem(Path(__file__).parents[2] / "problems" / "alpha_factor")
SMALL = {"seed": 0, "dates": 4}


def score(rule, **parameters):
    return evaluate(DirectProgram(factor=rule), **(parameters or SMALL))


def follow_trend(close, _volume, _book):
    return np.log(close[-6] / close[-41])


def use_planted(close, volume, book):
    logs = np.log(volume)
    return expect(np.log(close), logs, np.log(book[-1]), logs.mean(axis=0))


def test_the_recorded_values_are_those_of_the_named_factors():
    assert PROBLEM.baseline is not None
    assert PROBLEM.best_known is not None
    for rule, value in (
        (follow_trend, PROBLEM.baseline.value),
        (use_planted, PROBLEM.best_known.value),
    ):
        assert score(rule, **PROBLEM.parameters).objective == pytest.approx(value, abs=1e-8)


def test_places_are_shared_by_equal_numbers():
    assert rank(np.array([3.0, 1.0, 3.0, 7.0])).tolist() == [2.5, 1.0, 2.5, 4.0]


@pytest.mark.parametrize(
    ("other", "expected"), [([1.0, 2.0, 3.0], 1.0), ([3.0, 2.0, 1.0], -1.0), ([2.0, 2.0, 2.0], 0.0)]
)
def test_rank_correlations_by_hand(other, expected):
    assert correlate(np.array([1.0, 2.0, 3.0]), np.array(other)) == pytest.approx(expected)


def test_a_factor_without_an_opinion_is_worth_nothing():
    result = score(lambda close, *_rest: np.zeros(close.shape[1]))
    assert result.objective == 0.0
    assert result.measures["turnover"] == 0.5


def test_turning_a_factor_around_turns_its_sign():
    plain = score(follow_trend)
    turned = score(lambda *past: -follow_trend(*past))
    assert turned.objective == pytest.approx(-plain.objective, abs=1e-12)
    assert turned.measures == plain.measures


def test_nothing_later_than_the_present_day_is_told():
    close, volume, book, _ = draw_market(TRAINING, 0, 0, 4)
    game = trade(close, volume, book)
    past = next(game)
    for day in range(WINDOW, WINDOW + 3 * HORIZON, HORIZON):
        for told, whole in zip(past, (close, volume, book), strict=True):
            assert told.shape == (WINDOW, ASSETS)
            assert np.array_equal(told, whole[day - WINDOW + 1 : day + 1])
        past = game.send(past[0][-1])


def test_returns_that_are_expected_come_true_on_the_whole():
    close, _, _, expected = draw_market(TRAINING, 0, 0, 60)
    moves = np.diff(np.log(close), axis=0)
    pairs = [correlate(rank(a), rank(b)) for a, b in zip(expected[60:], moves[59:], strict=False)]
    assert np.mean(pairs) > 0.04


def test_changing_the_past_changes_nothing():
    def rule(close, volume, book):
        result = follow_trend(close, volume, book)
        for array in (close, volume, book):
            array[:] = 1.0
        return result

    assert score(rule) == score(follow_trend) == score(follow_trend)


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 1e13, True, "1", None])
def test_factors_are_checked_strictly(value):
    with pytest.raises(Infeasible, match=r"^factor on day 60"):
        score(lambda close, *_rest: [value] * close.shape[1])


def test_the_hold_out_is_another_draw():
    program = DirectProgram(factor=follow_trend)
    assert evaluate_holdout(program, **SMALL).objective != score(follow_trend).objective

from pathlib import Path

import numpy as np
import pytest
from expert_placement import (
    MOVE_PRICE,
    count_moves,
    draw_loads,
    evaluate,
    evaluate_holdout,
    measure_balance,
    play,
)
from instances import TRAINING

from evolve.problem import load_problem
from evolve.scoring import Infeasible
from tests.direct_program import DirectProgram

PROBLEM = load_problem(Path(__file__).parents[2] / "problems" / "expert_placement")


def place_greedily(history, previous, step, period=1):
    if (step - 1) % period:
        return previous
    load = history[-1]
    gpus, slots = previous.shape
    copies = np.ones(len(load), dtype=int)
    for _ in range(previous.size - len(load)):
        copies[np.argmax(load / copies)] += 1
    queue = sorted(
        ((load[i] / copies[i], i) for i in range(len(load)) for _ in range(copies[i])), reverse=True
    )
    burden, placed = [0.0] * gpus, [[] for _ in range(gpus)]
    for part, expert in queue:
        gpu = min((g for g in range(gpus) if len(placed[g]) < slots), key=lambda g: burden[g])
        placed[gpu].append(expert)
        burden[gpu] += part
    return placed


def score(rule):
    return evaluate(DirectProgram(place=rule), **PROBLEM.parameters)


def test_the_recorded_values_are_what_the_methods_give():
    assert PROBLEM.baseline is not None
    assert PROBLEM.best_known is not None
    found = [score(lambda h, p, s, n=n: place_greedily(h, p, s, n)).objective for n in (1, 4)]
    recorded = [PROBLEM.baseline.value, PROBLEM.best_known.value]
    assert found == pytest.approx(recorded, abs=1e-9)


def test_copies_share_the_load():
    placed = np.array([[0, 1], [0, 2]])
    assert measure_balance(placed, np.array([2.0, 1.0, 1.0])) == 1.0
    assert measure_balance(placed, np.array([0.0, 3.0, 1.0])) == pytest.approx(2 / 3)


def test_moves_are_counted_whatever_the_order():
    before = np.array([[0, 1], [2, 3]])
    assert count_moves(before, np.array([[1, 0], [3, 2]])) == 0
    assert count_moves(before, np.array([[0, 0], [1, 2]])) == 2


def test_moving_everything_costs_the_price():
    def rule(_history, previous, _step):
        return (previous + 5) % 32

    result = score(rule)
    assert result.measures["moved"] == 1.0
    assert result.objective == pytest.approx(result.metrics["balance"] - MOVE_PRICE)


def test_no_load_is_told_before_it_comes():
    loads = draw_loads(TRAINING, 0, 0, 8, 12)
    assert loads.mean(axis=1) == pytest.approx(1.0)
    game = play(loads, (4, 2))
    history, previous, step = next(game)
    seen = [(history, step)]
    for _ in range(11):
        history, _, step = game.send(previous)
        seen.append((history, step))
    for history, step in seen:
        assert np.array_equal(history, loads[max(0, step - 8) : step])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p[:, :4], "expected 8 by 5 numbers"),
        (lambda p: p * 0, "expected every expert somewhere"),
        (lambda p: p - 1, "expected whole numbers from 0 to 31"),
        (lambda p: p + 0.5, "expected whole numbers from 0 to 31"),
        (lambda p: p + 1e-9, "expected whole numbers from 0 to 31"),
        (lambda p: p.astype(bool), "array of type bool"),
        (lambda _p: None, "got a NoneType|got NoneType"),
    ],
)
def test_placements_are_checked_strictly(change, message):
    with pytest.raises(Infeasible, match=message):
        score(lambda _history, previous, _step: change(previous))


def test_changing_the_arguments_changes_nothing():
    def rule(history, previous, step):
        result = previous.copy()
        history[:], previous[:] = 0.0, 0
        return result

    assert score(rule) == score(lambda _history, previous, _step: previous)


def test_the_hold_out_is_another_draw():
    program = DirectProgram(place=lambda _history, previous, _step: previous)
    held = evaluate_holdout(program, **PROBLEM.parameters)
    assert held.objective != evaluate(program, **PROBLEM.parameters).objective

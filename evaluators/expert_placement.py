"""Scores placements of experts on GPUs by balance, less what moving them costs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from instances import (
    HOLDOUT,
    TRAINING,
    VALIDATION,
    draw_normal,
    name_values,
    open_stream,
    play_together,
    renew_seed,
)
from replies import as_indices

from evolve.scoring import Infeasible, ProgramHandle, Score

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

# What is taken off when every slot of every GPU gets another expert. Counted, not timed: the
# same program always pays the same.
MOVE_PRICE = 0.25

_TRAINING, _VALIDATION, _HOLDOUT = 6, 3, 10
_WINDOW = 8
_EXPONENT, _DRIFT, _JUMPS = 0.9, 0.12, 0.04


def evaluate(
    program: ProgramHandle, *, seed: int, experts: int, gpus: int, slots: int, steps: int
) -> Score:
    """Scores `place(history, previous, step)`, which puts an expert into each slot."""
    shape = (gpus, slots)
    splits = ((TRAINING, _TRAINING), (VALIDATION, _VALIDATION))
    games = [
        play(draw_loads(split, seed, number, experts, steps), shape)
        for split, count in splits
        for number in range(count)
    ]
    outcomes = play_together(program, "place", games)
    return _score(outcomes[:_TRAINING], [_value(outcome) for outcome in outcomes[_TRAINING:]])


def evaluate_holdout(
    program: ProgramHandle, *, seed: int, experts: int, gpus: int, slots: int, steps: int
) -> Score:
    """Scores the placements on loads that the search never sees."""
    seed = renew_seed(seed)
    loads = [draw_loads(HOLDOUT, seed, number, experts, steps) for number in range(_HOLDOUT)]
    return _score(play_together(program, "place", [play(x, (gpus, slots)) for x in loads]))


def draw_loads(split: str, seed: int, number: int, experts: int, steps: int) -> NDArray[np.float64]:
    """Draws loads that follow Zipf's law and drift, shape `(steps + 1, experts)`, mean 1."""
    stream = open_stream("expert_placement", split, seed, number)
    order = np.argsort(stream.random(experts))
    levels = -_EXPONENT * np.log1p(order)
    loads = []
    for _ in range(steps + 1):
        levels = levels + _DRIFT * draw_normal(stream, (experts,))
        jumping = np.flatnonzero(stream.random(experts) < _JUMPS)
        levels[jumping] = np.roll(levels, 1)[jumping]
        shares = np.exp(levels)
        loads.append(shares * experts / shares.sum())
    return np.array(loads)


def play(
    loads: NDArray[np.float64], shape: tuple[int, int]
) -> Generator[tuple[Any, ...], Any, tuple[float, float]]:
    """Asks for a placement before each step, and meets it with the load of that step.

    Returns:
        The mean load of the GPUs over the largest, and the share of slots that changed, both as
        means over the steps.
    """
    experts = loads.shape[1]
    current = np.arange(shape[0] * shape[1]).reshape(shape) % experts
    balances, moves = [], []
    for step in range(1, len(loads)):
        history = loads[max(0, step - _WINDOW) : step]
        reply = yield history, current.copy(), step
        where = f"place at step {step}"
        placed = as_indices(reply, shape, experts, where=where)
        copies = np.bincount(placed.ravel(), minlength=experts)
        if not copies.all():
            raise Infeasible(f"{where}: expected every expert somewhere, got no {copies.argmin()}")
        balances.append(measure_balance(placed, loads[step]))
        moves.append(count_moves(current, placed) / placed.size)
        current = placed
    return float(np.mean(balances)), float(np.mean(moves))


def measure_balance(placed: NDArray[np.int64], load: NDArray[np.float64]) -> float:
    """Returns the mean load of the GPUs over the largest; copies of an expert share its load."""
    copies = np.bincount(placed.ravel(), minlength=len(load))
    burden = (load / copies)[placed].sum(axis=1)
    return float(burden.mean() / burden.max())


def count_moves(before: NDArray[np.int64], after: NDArray[np.int64]) -> int:
    """Counts the experts that a GPU has to load; their order on it does not matter."""
    return sum(
        (Counter(new) - Counter(old)).total()
        for old, new in zip(before.tolist(), after.tolist(), strict=True)
    )


def _value(outcome: tuple[float, float]) -> float:
    balance, moved = outcome
    return balance - MOVE_PRICE * moved


def _score(outcomes: list[tuple[float, float]], validation: list[float] | None = None) -> Score:
    metrics = {"validation": float(np.mean(validation))} if validation else {}
    values = [_value(outcome) for outcome in outcomes]
    balance, moved = (float(np.mean(column)) for column in zip(*outcomes, strict=True))
    return Score(
        float(np.mean(values)),
        metrics={"lowest": min(values), "balance": balance, **metrics},
        measures={"moved": moved, "unevenness": 1.0 - balance},
        artifacts={"balance and moves": "\n".join(f"{b:.3f} {m:.3f}" for b, m in outcomes)},
        instances=name_values(values),
        validation=name_values(validation or ()),
    )

"""Scores variants of counterfactual regret minimisation by their exploitability."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from games import Tree, deal_kuhn, deal_leduc, roll_liars_dice
from instances import TRAINING, open_stream, play_together

from evolve.scoring import Infeasible, ProgramHandle, Score, as_floats

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_LARGEST = 1e12
# Below this, rounding errors speak.
_LEAST = 1e-9
_TRAINING = (("kuhn", 3), ("leduc", 3), ("dice", 3))
_HOLDOUT = (("kuhn", 6), ("leduc", 4), ("dice", 4))


def evaluate(program: ProgramHandle, *, iterations: int) -> Score:
    """Scores `update(regrets, memory, instant, legal, iteration)` by play on three games."""
    return _score(program, _TRAINING, iterations)


def evaluate_holdout(program: ProgramHandle, *, iterations: int) -> Score:
    """Scores the variant on larger games that the search never sees."""
    return _score(program, _HOLDOUT, iterations)


@cache
def open_game(name: str, size: int) -> Tree:
    """Returns a game, unfolded once in this process; nothing changes it."""
    deal = {"kuhn": deal_kuhn, "leduc": deal_leduc, "dice": roll_liars_dice}[name]
    # A program that could tell the game might bring its solution along.
    return Tree(deal(size), open_stream(f"cfr_variants {name}", TRAINING, 0, size))


def solve(tree: Tree, iterations: int) -> Generator[tuple[Any, ...], Any, tuple[float, float]]:
    """Runs a variant on a game; players take turns within an iteration.

    Returns:
        The exploitability of the average policies, and that of the last ones.
    """
    policies = [normalise(np.zeros_like(legal), legal) for legal in tree.legal]
    sums = [np.zeros_like(legal) for legal in tree.legal]
    regrets = [np.zeros_like(legal) for legal in tree.legal]
    memories = [np.zeros_like(legal) for legal in tree.legal]
    for iteration in range(1, iterations + 1):
        for player in (0, 1):
            legal = tree.legal[player]
            instant, reached = tree.find_regrets(policies, player)
            reply = yield regrets[player], memories[player], instant, legal, iteration
            parts = read_reply(reply, legal, f"update in iteration {iteration}")
            regrets[player], memories[player], weights, share = parts
            sums[player] += share * reached[:, None] * policies[player]
            policies[player] = normalise(weights, legal)
    averages = [normalise(total, legal) for total, legal in zip(sums, tree.legal, strict=True)]
    return tree.find_exploitability(averages), tree.find_exploitability(policies)


def read_reply(reply: object, legal: Floats, where: str) -> tuple[Floats, Floats, Floats, float]:
    """Checks a reply: regrets, memory, weights of the next policy, weight of the last one.

    Raises:
        Infeasible: It has another form, or a weight lies below 0.
    """
    if not isinstance(reply, list | tuple) or len(reply) != 4:
        raise Infeasible(f"{where}: expected `regrets, memory, weights, share`")
    names = ("regrets", "memory", "weights")
    arrays = [
        as_floats(part, legal.shape, where=f"{where}: {name}", magnitude=_LARGEST)
        for name, part in zip(names, reply, strict=False)
    ]
    share = float(as_floats([reply[3]], (1,), where=f"{where}: share", magnitude=_LARGEST)[0])
    if arrays[2].min() < 0.0 or share < 0.0:
        raise Infeasible(f"{where}: expected weights and share of at least 0")
    return arrays[0], arrays[1], arrays[2], share


def normalise(weights: Floats, legal: Floats) -> Floats:
    """Returns probabilities of legal actions; all alike where every weight is 0."""
    allowed = weights * legal
    totals = allowed.sum(axis=1, keepdims=True)
    even = legal / legal.sum(axis=1, keepdims=True)
    policy: Floats = np.where(totals > 0.0, allowed / np.where(totals > 0.0, totals, 1.0), even)
    return policy


def _score(program: ProgramHandle, games: tuple[tuple[str, int], ...], iterations: int) -> Score:
    trees = [open_game(*game) for game in games]
    outcomes = play_together(program, "update", [solve(tree, iterations) for tree in trees])
    logs = [math.log10(max(average, _LEAST)) for average, _ in outcomes]
    # Of the second game, in which no last policy is an equilibrium soon.
    gap = math.log10(max(outcomes[1][1], _LEAST)) - logs[1]
    names = [f"{name}_{size}" for name, size in games]
    return Score(
        float(np.mean(logs)),
        metrics={name: average for name, (average, _) in zip(names, outcomes, strict=True)},
        measures={
            "last_gap": gap,
            "balance": float(np.ptp(logs)),
        },
        artifacts={
            "exploitability": "\n".join(
                f"{name}: average {average:.3g}, last {final:.3g}"
                for name, (average, final) in zip(names, outcomes, strict=True)
            )
        },
    )

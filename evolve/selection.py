"""Parents and inspirations, drawn from the cells of an archive."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from evolve.archive import rank_utilities

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evolve.archive import Archive

# Between these the selection goes from uniform to greedy; utilities are scaled to [0, 1], so that
# the last value lets even the best of 10^6 elites outweigh all others together.
_INVERSE_TEMPERATURES = np.concatenate([[0.0], np.geomspace(1e-2, 1e8, 24)])
# So many of the best ranks are kept apart when the temperature is solved; of the others, groups
# of neighbouring ranks share one utility.
_EXACT_RANKS = 256
_GROUPS_PER_OCTAVE = 16
TOURNAMENT_SIZE = 4


def parent_probabilities(
    archive: Archive, rule: str, *, entropy: float, visit_penalty: float
) -> NDArray[np.float64]:
    """Gives the probability of each elite to be a parent, shape `(len(archive),)`.

    Args:
        archive: At least one elite.
        rule: `boltzmann`: see `selection_probabilities`; `curiosity`: the same over how the
            offspring of each cell fared, without a visit penalty; `tournament`: the best of
            `TOURNAMENT_SIZE` elites drawn with replacement; `greedy`: the best; `uniform`: any.
        entropy: The target of `boltzmann` and `curiosity`.
        visit_penalty: The exponent of `boltzmann`.
    """
    if rule == "boltzmann":
        return selection_probabilities(archive, entropy=entropy, visit_penalty=visit_penalty)
    if rule == "curiosity":
        unvisited = np.zeros(len(archive))
        return _probabilities(rank_utilities(archive.curiosity, 1.0), unvisited, entropy)
    probabilities = np.full(len(archive), 1.0 / len(archive))
    if rule == "greedy":
        probabilities = np.zeros(len(archive))
        probabilities[archive.ranking()[0]] = 1.0
    elif rule == "tournament":
        probabilities = _tournament(archive.utilities)
    return probabilities


def selection_probabilities(
    archive: Archive, *, entropy: float, visit_penalty: float
) -> NDArray[np.float64]:
    """Gives the probability of each elite to be a parent by the entropy-targeted rule.

    `p_i ~ exp(u_i / T) / (1 + children_i)^k` over rank utilities `u`, with the temperature `T`
    solved so that the entropy of `p`, divided by `log(n)`, meets the target; where no `T` meets
    it, the nearest reachable entropy is taken.

    Args:
        archive: At least one elite.
        entropy: The target, from 0 (greedy) to 1 (uniform).
        visit_penalty: The exponent `k`, at least 0.
    """
    utilities = archive.utilities
    log_weights = -visit_penalty * np.log1p(archive.children)
    return _probabilities(utilities, log_weights, entropy)


def _probabilities(
    utilities: NDArray[np.float64], log_weights: NDArray[np.float64], entropy: float
) -> NDArray[np.float64]:
    count = len(utilities)
    if count == 1 or utilities.min() == utilities.max():
        return _boltzmann(utilities, log_weights, 0.0)
    groups = _Groups(utilities, log_weights)
    return _boltzmann(utilities, log_weights, groups.solve(entropy * math.log(count)))


class _Groups:
    """Elites summed up by rank, so that solving for the temperature does not grow with them.

    Args:
        utilities: Shape `(n,)`, in [0, 1].
        log_weights: Logarithms of the visit penalties, shape `(n,)`.
    """

    def __init__(self, utilities: NDArray[np.float64], log_weights: NDArray[np.float64]) -> None:
        ranks = np.rint((1.0 - utilities) / np.diff(np.unique(utilities)).min())
        below = np.log2(np.maximum(ranks / _EXACT_RANKS, 1.0)) * _GROUPS_PER_OCTAVE
        group = np.where(ranks < _EXACT_RANKS, ranks, _EXACT_RANKS + below).astype(np.int64)
        weights = np.exp(log_weights)
        total = np.bincount(group, weights)
        held = total > 0.0
        self._weights = total[held]
        self._utilities = np.bincount(group, weights * utilities)[held] / self._weights
        self._log_weights = np.bincount(group, weights * log_weights)[held] / self._weights

    def solve(self, target: float) -> float:
        """Gives the largest inverse temperature at which the entropy still meets the target.

        The entropy first rises with the inverse temperature where the visit penalty bears on the
        best, then falls; the falling branch is wanted.
        """
        excess = self._entropies(_INVERSE_TEMPERATURES) - target
        if excess.max() < 0.0:
            return float(_INVERSE_TEMPERATURES[excess.argmax()])
        last = int(np.flatnonzero(excess >= 0.0)[-1])
        low = _INVERSE_TEMPERATURES[last]
        high = _INVERSE_TEMPERATURES[min(last + 1, len(excess) - 1)]
        # Three rounds of 17 points each narrow the bracket to a 4096th.
        for _ in range(3):
            points = np.linspace(low, high, 17)
            inside = int(np.flatnonzero(self._entropies(points) >= target)[-1:].sum())
            low, high = points[inside], points[min(inside + 1, 16)]
        return float(low)

    def _entropies(self, inverse_temperatures: NDArray[np.float64]) -> NDArray[np.float64]:
        """Gives the entropy of the whole distribution at each inverse temperature."""
        logits = inverse_temperatures[:, None] * (self._utilities - 1.0)
        parts = np.exp(logits) * self._weights
        total = parts.sum(axis=1)
        entropies: NDArray[np.float64] = np.log(total) - (
            (parts * (logits + self._log_weights)).sum(axis=1) / total
        )
        return entropies


def _boltzmann(
    utilities: NDArray[np.float64], log_weights: NDArray[np.float64], inverse_temperature: float
) -> NDArray[np.float64]:
    logits = inverse_temperature * (utilities - 1.0) + log_weights
    weights = np.exp(logits - logits.max())
    probabilities: NDArray[np.float64] = weights / weights.sum()
    return probabilities


def _tournament(utilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gives the chance of each to win a tournament; equals share theirs."""
    _, inverse, counts = np.unique(utilities, return_inverse=True, return_counts=True)
    beaten = np.concatenate([[0.0], np.cumsum(counts) / len(utilities)]) ** TOURNAMENT_SIZE
    chances: NDArray[np.float64] = (np.diff(beaten) / counts)[inverse]
    return chances


def draw(cumulative: NDArray[np.float64], rng: np.random.Generator) -> int:
    """Draws a position from the running sums of its probabilities."""
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))

"""Parents and inspirations, drawn from the cells of an archive."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from evolve.archive import GridArchive

# Between these the selection goes from uniform to greedy; ranks are scaled to [0, 1], so that
# the last value lets even the best of 10^6 elites outweigh all others together.
_INVERSE_TEMPERATURES = np.concatenate([[0.0], np.geomspace(1e-3, 1e8, 34)])


def rank_utilities(objectives: NDArray[np.float64], sign: float) -> NDArray[np.float64]:
    """Gives utilities from 0 (worst) to 1 (best) that depend on the order of objectives alone.

    Equal objectives get equal utilities, so any increasing transformation of the objective
    leaves the result unchanged.

    Args:
        objectives: Shape `(n,)`.
        sign: +1 when larger is better, -1 when smaller is.
    """
    _, inverse = np.unique(sign * objectives, return_inverse=True)
    top = inverse.max(initial=0)
    return inverse / top if top else np.ones(len(objectives))


def selection_probabilities(
    archive: GridArchive, *, entropy: float, visit_penalty: float
) -> NDArray[np.float64]:
    """Gives the probability of each elite to be a parent, shape `(len(archive),)`.

    `p_i ~ exp(u_i / T) / (1 + children_i)^k` over rank utilities `u`, with the temperature `T`
    solved so that the entropy of `p`, divided by `log(n)`, meets the target; where no `T` meets
    it, the nearest reachable entropy is taken.

    Args:
        archive: At least one elite.
        entropy: The target, from 0 (greedy) to 1 (uniform).
        visit_penalty: The exponent `k`, at least 0.
    """
    utilities = rank_utilities(archive.objectives, archive.direction.sign)
    log_weights = -visit_penalty * np.log1p(archive.children)
    count = len(utilities)
    if count == 1 or utilities.min() == utilities.max():
        return _boltzmann(utilities, log_weights, 0.0)
    target = entropy * math.log(count)

    def excess(inverse_temperature: float) -> float:
        shares = _boltzmann(utilities, log_weights, inverse_temperature)
        return _entropy(shares) - target

    return _boltzmann(utilities, log_weights, _solve(excess))


def _solve(excess: Callable[[float], float]) -> float:
    """Finds the largest inverse temperature at which the entropy still meets the target.

    The entropy first rises with the inverse temperature where the visit penalty bears on the
    best, then falls; the falling branch is wanted.
    """
    values = np.array([excess(float(value)) for value in _INVERSE_TEMPERATURES])
    if values.max() < 0.0:
        return float(_INVERSE_TEMPERATURES[values.argmax()])
    last = int(np.flatnonzero(values >= 0.0)[-1])
    low = _INVERSE_TEMPERATURES[last]
    high = _INVERSE_TEMPERATURES[min(last + 1, len(values) - 1)]
    for _ in range(20):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if excess(float(middle)) >= 0.0 else (low, middle)
    return float(low)


def _boltzmann(
    utilities: NDArray[np.float64], log_weights: NDArray[np.float64], inverse_temperature: float
) -> NDArray[np.float64]:
    logits = inverse_temperature * (utilities - 1.0) + log_weights
    weights = np.exp(logits - logits.max())
    probabilities: NDArray[np.float64] = weights / weights.sum()
    return probabilities


def _entropy(probabilities: NDArray[np.float64]) -> float:
    positive = probabilities[probabilities > 0.0]
    return float(-(positive * np.log(positive)).sum())


def draw(probabilities: NDArray[np.float64], rng: np.random.Generator) -> int:
    """Draws a position by its probability."""
    return int(np.searchsorted(np.cumsum(probabilities), rng.random() * probabilities.sum()))

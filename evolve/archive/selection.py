"""How likely each elite of an archive is to be a parent."""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from evolve.archive.ranking import dense_ranks

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from evolve.archive import Archive

TOURNAMENT_SIZE = 4
# Summing up so few elites by rank takes longer than it saves.
_FEW_ELITES = 1024
# So many of the best ranks are kept apart when the temperature is solved; of the others, groups
# of neighbouring ranks share one utility.
_EXACT_RANKS = 256
_GROUPS_PER_OCTAVE = 16
# Utilities are scaled to [0, 1], so that the largest inverse temperature lets even the best of
# 10^6 elites outweigh all others together.
_LARGEST = 1e8
_SMALLEST = 1e-2
_STEP = 4.0
# Where the target is above all but a peak: points looked at a time, and how often anew about the
# highest of them.
_POINTS, _ZOOMS = 48, 3
# Share of the target that is close enough.
_TOLERANCE = 4e-3


class Lottery:
    """Draws elites by their chances.

    Args:
        positions: Of the elites in their archive, shape `(n,)`.
        weights: Their chances up to a common factor, in the order of `positions`.
    """

    def __init__(self, positions: NDArray[np.int64], weights: NDArray[np.float64]) -> None:
        self._positions = positions
        self._weights = weights
        # A list: a single number is found in it several times quicker than in an array.
        self._cumulative: list[float] = np.cumsum(weights).tolist()

    def draw(self, rng: Generator) -> int:
        """Draws the position of an elite."""
        place = rng.random() * self._cumulative[-1]
        return int(self._positions[bisect_right(self._cumulative, place)])

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Returns the chance of each elite, in the archive's order; they add up to 1."""
        probabilities = np.empty(len(self._weights))
        probabilities[self._positions] = self._weights / self._cumulative[-1]
        return probabilities


def make_lottery(archive: Archive, rule: str, *, entropy: float, visit_penalty: float) -> Lottery:
    """Returns the chances of an archive's elites to be a parent.

    Args:
        archive: At least one elite.
        rule: `boltzmann`: `p_i ~ exp(u_i / T) / (1 + children_i)^k` over utilities `u` that
            fall evenly from 1 to 0 with the rank, with the temperature `T` solved so that the
            entropy of `p`, divided by `log(n)`, meets the target; where no `T` meets it, the
            nearest reachable entropy is taken. `curiosity`: the same over ranks of how the
            offspring of each cell fared, without the penalty. `tournament`: the best of
            `TOURNAMENT_SIZE` elites drawn with replacement. `greedy`: the best. `uniform`: any.
        entropy: The target of `boltzmann` and `curiosity`, from 0 (greedy) to 1 (uniform).
        visit_penalty: The exponent `k` of `boltzmann`, at least 0.

    Raises:
        ValueError: The archive is empty.
    """
    if not len(archive):
        raise ValueError("archive: expected at least one elite to choose from, got none")
    if rule == "curiosity":
        curiosity = archive.curiosity
        order = np.argsort(-curiosity, kind="stable")
        return _target_entropy(order, dense_ranks(curiosity[order]), None, entropy)
    order, ranks = archive.ranked()
    if rule == "boltzmann":
        penalty = _penalize(archive.children[order], visit_penalty)
        return _target_entropy(order, ranks, penalty, entropy)
    weights = np.ones(len(order))
    if rule == "greedy":
        weights[1:] = 0.0
    elif rule == "tournament":
        weights = _win_tournament(ranks)
    return Lottery(order, weights)


def _penalize(children: NDArray[np.int64], exponent: float) -> NDArray[np.float64] | None:
    """Returns the logarithms of the visit penalties; None where there is none."""
    most = int(children.max())
    if not exponent or not most:
        return None
    penalties: NDArray[np.float64] = (-exponent * np.log1p(np.arange(most + 1.0)))[children]
    return penalties


def _target_entropy(
    order: NDArray[np.int64],
    ranks: NDArray[np.int64],
    penalty: NDArray[np.float64] | None,
    entropy: float,
) -> Lottery:
    # From here on the best comes first, and utilities are less 1: 0 for the best, -1 for the worst.
    worst = int(ranks[-1])
    log_weights = np.zeros(len(order)) if penalty is None else penalty
    if not worst:
        return Lottery(order, np.exp(log_weights))
    utilities = ranks / -worst
    groups = _Groups(ranks, utilities, log_weights)
    inverse_temperature = groups.solve(entropy)
    logits = inverse_temperature * utilities
    if penalty is not None:
        logits += penalty
        logits -= logits.max()
    return Lottery(order, np.exp(logits))


class _Groups:
    """Elites summed up by rank, so that solving for the temperature does not grow with them.

    Args:
        ranks: From best to worst, shape `(n,)`.
        utilities: From 0 to -1, shape `(n,)`.
        log_weights: Logarithms of the visit penalties, shape `(n,)`.
    """

    def __init__(
        self,
        ranks: NDArray[np.int64],
        utilities: NDArray[np.float64],
        log_weights: NDArray[np.float64],
    ) -> None:
        groups, worst = ranks, int(ranks[-1])
        weights = np.exp(log_weights)
        self._count = len(ranks)
        self._known: dict[float, float] = {}
        if len(ranks) <= _FEW_ELITES:
            self._weights, self._utilities, self._log_weights = weights, utilities, log_weights
            return
        if worst >= _EXACT_RANKS:
            groups = _group_table(worst.bit_length())[ranks]
        starts = np.concatenate([[0], np.flatnonzero(groups[1:] != groups[:-1]) + 1])
        self._weights = np.add.reduceat(weights, starts)
        self._utilities = np.add.reduceat(weights * utilities, starts) / self._weights
        self._log_weights = np.add.reduceat(weights * log_weights, starts) / self._weights

    def solve(self, entropy: float) -> float:
        """Returns the largest inverse temperature at which the entropy still meets the target.

        The entropy first rises with the inverse temperature where the visit penalty bears on the
        best, then falls; the falling branch is wanted.
        """
        target = entropy * math.log(self._count)
        # What is right for many ranks without penalties.
        guess = math.e * self._count ** (1.0 - entropy)
        low, high = self._bracket(guess, target) or self._climb(target)
        above, below = self._entropy(low) - target, self._entropy(high) - target
        enough = _TOLERANCE * target
        for _ in range(40):
            if above <= enough or above == below:
                break
            # Regula falsi, never too near an end; the entropy falls about evenly with the
            # logarithm. A little less than what it says often ends the search at once.
            share = min(max(above / (above - below) * 0.98, 0.05), 0.95)
            middle = low * (high / low) ** share
            excess = self._entropy(middle) - target
            if excess >= 0.0:
                low, above = middle, excess
            else:
                high, below = middle, excess
        return low

    def _bracket(self, guess: float, target: float) -> tuple[float, float] | None:
        """Returns inverse temperatures with more and with less entropy than wanted."""
        if self._entropy(guess) >= target:
            low, high = guess, guess * _STEP
            while self._entropy(high) >= target:
                if high >= _LARGEST:
                    return high, high
                low, high = high, high * _STEP
            return low, high
        low, high = guess / _STEP, guess
        while self._entropy(low) < target:
            if low < _SMALLEST:
                return None
            low, high = low / _STEP, low
        return low, high

    def _climb(self, target: float) -> tuple[float, float]:
        """Returns the same where the entropy is met by a narrow peak, or else the peak twice."""
        points = np.geomspace(_SMALLEST / _STEP, _LARGEST, _POINTS)
        for _ in range(_ZOOMS):
            entropies = np.array([self._entropy(point) for point in points.tolist()])
            met = np.flatnonzero(entropies >= target)
            if len(met):
                last = int(met[-1])
                return float(points[last]), float(points[min(last + 1, len(points) - 1)])
            peak = int(entropies.argmax())
            ends = points[max(peak - 1, 0)], points[min(peak + 1, len(points) - 1)]
            highest = float(points[peak])
            points = np.linspace(*ends, _POINTS)
        return highest, highest

    def _entropy(self, inverse_temperature: float) -> float:
        """Returns the entropy of the whole distribution; each point is worked out once."""
        if inverse_temperature not in self._known:
            self._known[inverse_temperature] = self._measure(inverse_temperature)
        return self._known[inverse_temperature]

    def _measure(self, inverse_temperature: float) -> float:
        logits = inverse_temperature * self._utilities
        parts = np.exp(logits)
        parts *= self._weights
        logits += self._log_weights
        total = float(np.add.reduce(parts))
        return math.log(total) - float(parts @ logits) / total


@lru_cache(maxsize=32)
def _group_table(bits: int) -> NDArray[np.int64]:
    """Returns the group of each rank below `2 ** bits`."""
    ranks = np.arange(1 << bits, dtype=np.float64)
    below = np.log2(np.maximum(ranks / _EXACT_RANKS, 1.0)) * _GROUPS_PER_OCTAVE
    return np.where(ranks < _EXACT_RANKS, ranks, _EXACT_RANKS + below).astype(np.int64)


def _win_tournament(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the chance of each to win a tournament; equals share theirs."""
    counts = np.bincount(ranks)
    not_better = np.concatenate([np.cumsum(counts[::-1])[::-1], [0]]) / len(ranks)
    chances: NDArray[np.float64] = (-np.diff(not_better**TOURNAMENT_SIZE) / counts)[ranks]
    return chances

"""Selects parents and inspirations; the rules by which elites become parents."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from evolve.archive.archives import Archive, Elite, Islands

# An inspiration is the farthest in source of a few that are drawn from the nearest in rank.
_NEAREST = 12
_CANDIDATES = 4
# Groups in which more ranks than these are summed up to solve for the temperature, the first
# ones alone.
_GROUPS = 1024
# Utilities lie in [0, 1]: here the best of a million elites outweighs all others together.
_LARGEST = 1e8
_SMALLEST = 1e-3
# Programs that are shown beside the champion, or mixed into the parent.
INSPIRATIONS = 3
# Share of the entropy target that is close enough.
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
        self._cumulative = np.cumsum(weights)

    def draw(self, rng: Generator) -> int:
        """Draws the position of an elite."""
        place = rng.random() * self._cumulative[-1]
        return int(self._positions[self._cumulative.searchsorted(place, side="right")])

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Returns the chance of each elite, in the archive's order; they add up to 1."""
        probabilities = np.empty(len(self._weights))
        probabilities[self._positions] = self._weights / self._cumulative[-1]
        return probabilities


def make_lottery(archive: Archive, rule: str, *, entropy: float) -> Lottery:
    """Returns the chances of an archive's elites to be a parent.

    Args:
        archive: At least one elite.
        rule: One of `RULES`.
        entropy: The target, from 0 (greedy) to 1 (uniform).

    Raises:
        ValueError: The archive is empty.
    """
    if not len(archive):
        raise ValueError("archive: expected at least one elite to choose from, got none")
    order, ranks = archive.ranked()
    return Lottery(order, RULES[rule](ranks, archive.children[order], entropy))


Weights = NDArray[np.float64]
Ranks = NDArray[np.int64]


def _weigh_boltzmann(ranks: Ranks, children: Ranks, entropy: float) -> Weights:
    """Returns `exp(u / T) / sqrt(1 + children)` of utilities that fall evenly with the rank.

    Without children, the entropy of the distribution, divided by that of the even one, meets the
    target, by the choice of the temperature `T`; where none does, the nearest is taken.
    """
    penalties: Weights = 1.0 / np.sqrt(1.0 + children)
    worst = int(ranks[-1])
    if not worst:
        return penalties
    sizes = np.bincount(ranks).astype(float)
    # Less 1, so that the best has 0 and nothing overflows.
    utilities = np.arange(worst + 1) / -worst
    if worst >= _GROUPS:
        starts = np.geomspace(1.0, worst + 1.0, _GROUPS).astype(np.int64) - 1
        # Much quicker than `np.unique`, which does not know that they are sorted.
        starts = starts[np.diff(starts, prepend=-1) > 0]
        totals = np.add.reduceat(sizes * utilities, starts)
        sizes = np.add.reduceat(sizes, starts)
        utilities = totals / sizes

    target = entropy * math.log(len(ranks))

    def excess(inverse_temperature: float) -> float:
        logits = inverse_temperature * utilities
        parts = sizes * np.exp(logits)
        total = float(parts.sum())
        return math.log(total) - float(parts @ logits) / total - target

    # The guess is right for many ranks without ties.
    guess = math.e * len(ranks) ** (1.0 - entropy)
    found = _find_root(excess, guess, tolerance=_TOLERANCE * target)
    weights: Weights = np.exp(-found / worst * ranks) * penalties
    return weights


def _find_root(falling: Callable[[float], float], guess: float, *, tolerance: float) -> float:
    """Returns where a falling function is at most a little above 0; an end where it is nowhere."""
    low, high = guess / 2.0, guess * 2.0
    while (above := falling(low)) < 0.0 and low > _SMALLEST:
        low, high = low / 4.0, low
    while (below := falling(high)) > 0.0 and high < _LARGEST:
        low, high, above = high, high * 4.0, below
    for _ in range(40):
        if not below < 0.0 < tolerance < above:
            break
        # Regula falsi over the logarithm, never too near an end; a little less often ends it.
        share = min(max(above / (above - below) * 0.98, 0.05), 0.95)
        middle = low * (high / low) ** share
        value = falling(middle)
        if value >= 0.0:
            low, above = middle, value
        else:
            high, below = middle, value
    return high if below > 0.0 else low


# From the ranks of elites, the best first, their numbers of children and the target entropy to
# their chances. `pareto`, where no instances are known, is as `boltzmann`.
RULES: Mapping[str, Callable[[Ranks, Ranks, float], Weights]] = MappingProxyType(
    {"boltzmann": _weigh_boltzmann, "pareto": _weigh_boltzmann}
)


@dataclass(frozen=True, slots=True)
class SelectedElites:
    """The elites selected for a slot: whose source is changed, and what may be mixed into it."""

    island: int
    parent: Elite
    inspirations: tuple[Elite, ...]


@dataclass(slots=True)
class ParentSelector:
    """Selects for one generation, from a state that does not change meanwhile.

    Attributes:
        islands: Archives and settings.
        entropy: The target of parent selection.
        pool: Where a baseline takes parents from; for `pareto`, the leader on each instance.
        signature_of: Returns the MinHash signature of an elite's source.
        champion: What a slot changes that does hill climbing.
        climbing: Share of the slots that do.
    """

    islands: Islands
    _: KW_ONLY
    entropy: float
    pool: Sequence[Elite]
    signature_of: Callable[[Elite], NDArray[np.uint32]]
    champion: Elite | None = None
    climbing: float = 0.0
    _lotteries: dict[int, Lottery] = field(default_factory=dict, init=False)

    def select(self, island: int, rng: Generator) -> SelectedElites:
        """Returns the parent and the inspirations of one slot.

        The best elite of the island comes first, where it is not the parent. The others are
        near the parent in objective and far from it in source; they come from another island and
        from other cells of the parent's own in turns. A slot that does hill climbing changes the
        champion, for the island that found it.
        """
        if self.islands.strategy.is_baseline:
            return SelectedElites(island, self.pool[int(rng.integers(len(self.pool)))], ())
        if self.champion is not None and self.climbing and rng.random() < self.climbing:
            return SelectedElites(self.champion.origin, self.champion, ())
        archive = self.islands.archives[island]
        if self.islands.strategy.rule == "pareto" and self.pool:
            # Who leads on more instances is drawn more often (Agrawal et al. 2025, GEPA).
            parent = self.pool[int(rng.integers(len(self.pool)))]
        else:
            parent = archive.elites[self._lottery_of(island).draw(rng)]
        shown: dict[str, Elite] = {}
        if archive.best is not None and archive.best.program_id != parent.program_id:
            shown[archive.best.program_id] = archive.best
        # There may be fewer different programs than are asked for.
        for turn in range(4 * INSPIRATIONS):
            if len(shown) == INSPIRATIONS:
                break
            found = self._find_far(self._source_of(turn, island, rng), parent, shown, rng)
            if found is not None:
                shown[found.program_id] = found
        return SelectedElites(island, parent, tuple(shown.values()))

    def _source_of(self, turn: int, island: int, rng: Generator) -> int:
        count = len(self.islands.archives)
        if turn % 2 == 1 or count == 1:
            return island
        return (island + 1 + int(rng.random() * (count - 1))) % count

    def _find_far(
        self, island: int, parent: Elite, shown: Mapping[str, Elite], rng: Generator
    ) -> Elite | None:
        """Returns the elite of an island that shares least with the parent, of a few near it."""
        elites = self.islands.archives[island].elites
        near = _find_near(self.islands.archives[island], parent.objective)
        candidates: list[Elite] = []
        # More than are wanted are drawn, for some may be shown already; in one call, for calls
        # are most of what a slot takes.
        drawn = rng.random(2 * _CANDIDATES).tolist()
        for place in dict.fromkeys([int(share * len(near)) for share in drawn]):
            elite = elites[near[place]]
            if elite.program_id != parent.program_id and elite.program_id not in shown:
                candidates.append(elite)
                if len(candidates) == _CANDIDATES:
                    break
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        own = self.signature_of(parent)
        # Bytes are counted quicker than truth values.
        shared = [(own == self.signature_of(elite)).tobytes().count(1) for elite in candidates]
        return candidates[shared.index(min(shared))]

    def _lottery_of(self, island: int) -> Lottery:
        if island not in self._lotteries:
            archive, rule = self.islands.archives[island], self.islands.strategy.rule
            self._lotteries[island] = make_lottery(archive, rule, entropy=self.entropy)
        return self._lotteries[island]


def _find_near(archive: Archive, objective: float) -> list[int]:
    """Returns the positions of an archive's elites around an objective, by rank."""
    order, sign, objectives = archive.by_objective(), archive.direction.sign, archive.objectives
    middle = bisect_left(order, -sign * objective, key=lambda at: -sign * objectives[at])
    start = max(0, min(middle - _NEAREST // 2, len(order) - _NEAREST))
    near: list[int] = order[start : start + _NEAREST].tolist()
    return near

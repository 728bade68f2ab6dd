"""Which of several models plays a role in a slot: a rule that learns which ones pay.

Thompson sampling with discounted counts (Raj & Kalyani 2017, Taming non-stationary bandits: A
Bayesian approach). Rewards are asymmetric and cost counts, as in ShinkaEvolve (Lange et al. 2025):
only gains on the parent are rewarded. They are rewarded by rank, so that the scale of the
objective does not matter.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator

    from evolve.models.roster import Candidate
    from evolve.records.results import ModelUse

# Any gain is worth half a reward; how it ranks among the last ones is worth the other half.
_GAIN = 0.5
_GAINS_KEPT = 128
_DECAY = 0.98
# So many choices follow the weights alone, so that no model is given up.
_EVEN = 0.1
# A model for nothing counts as if it cost this part of the mean.
_COST_FLOOR = 0.05
# What a summarizer is good for shows only generations later.
_UNREWARDED = frozenset({"summarizer"})


@dataclass(slots=True)
class _Tally:
    """What came of a model in a role; all numbers count less with every later slot."""

    uses: float = 0.0
    reward: float = 0.0
    cost_usd: float = 0.0
    priced: float = 0.0
    tokens: float = 0.0

    def decay(self) -> None:
        self.uses *= _DECAY
        self.reward *= _DECAY
        self.cost_usd *= _DECAY
        self.priced *= _DECAY
        self.tokens *= _DECAY


class ModelStats:
    """How models have paid in their roles; a fold over the slots of a run."""

    def __init__(self) -> None:
        self._tallies: dict[str, dict[str, _Tally]] = {}
        self._gains: deque[float] = deque(maxlen=_GAINS_KEPT)

    def record(self, uses: Sequence[ModelUse], gain: float) -> None:
        """Takes in a slot.

        Args:
            uses: Its calls in order.
            gain: What its best program gained on its parent, 0 or less for nothing.
        """
        reward = self._rank(gain)
        for role, calls in groupby(sorted(uses, key=lambda use: use.role), lambda use: use.role):
            tallies = self._tallies.setdefault(role, {})
            for tally in tallies.values():
                tally.decay()
            by_model: dict[str, list[ModelUse]] = {}
            for use in calls:
                by_model.setdefault(use.model, []).append(use)
            for model, group in by_model.items():
                tally = tallies.setdefault(model, _Tally())
                costs = [use.cost_usd for use in group if use.cost_usd is not None]
                tally.uses += 1.0
                tally.reward += reward
                tally.tokens += sum(use.tokens for use in group)
                if len(costs) == len(group):
                    tally.priced += 1.0
                    tally.cost_usd += sum(costs)

    def choose(
        self, role: str, candidates: Sequence[Candidate], rng: Generator, *, thrift: float
    ) -> str:
        """Returns the name of the model that plays a role.

        Args:
            role: The role.
            candidates: At least one.
            rng: Where chance comes from.
            thrift: How much cost counts, from 0, not at all, to 1: by reward per cost.
        """
        if len(candidates) == 1 or role in _UNREWARDED or rng.random() < _EVEN:
            return draw_by_weight(candidates, rng)
        tallies = [self._tallies.get(role, {}).get(item.name, _Tally()) for item in candidates]
        costs = _relative_costs(tallies)
        best, highest = candidates[0].name, -1.0
        for candidate, tally, cost in zip(candidates, tallies, costs, strict=True):
            chance = rng.beta(1.0 + tally.reward, 1.0 + tally.uses - tally.reward)
            value = candidate.weight * chance / cost**thrift
            if value > highest:
                best, highest = candidate.name, value
        return best

    def _rank(self, gain: float) -> float:
        """Returns the reward of a gain, from 0 for none to 1 for the largest of late."""
        if gain <= 0.0:
            return 0.0
        self._gains.append(gain)
        below = sum(other < gain for other in self._gains)
        equal = sum(other == gain for other in self._gains)
        return _GAIN + (1.0 - _GAIN) * (below + 0.5 * equal) / len(self._gains)


def draw_by_weight(candidates: Sequence[Candidate], rng: Generator) -> str:
    """Draws a model's name with chances that follow the weights."""
    point = rng.random() * sum(candidate.weight for candidate in candidates)
    for candidate in candidates:
        point -= candidate.weight
        if point < 0.0:
            return candidate.name
    return candidates[-1].name


def _relative_costs(tallies: Sequence[_Tally]) -> list[float]:
    """Returns what a slot costs with each model, in parts of the mean; 1 where it is not known.

    Counts money where all prices are known, else tokens.
    """
    tried = [tally for tally in tallies if tally.uses]
    if all(tally.priced == tally.uses for tally in tried):
        costs = [tally.cost_usd / tally.uses if tally.uses else None for tally in tallies]
    else:
        costs = [tally.tokens / tally.uses if tally.uses else None for tally in tallies]
    known = [cost for cost in costs if cost is not None]
    mean = sum(known) / len(known) if known else 0.0
    if not mean:
        return [1.0] * len(tallies)
    floor = _COST_FLOOR * mean
    return [1.0 if cost is None else (cost + floor) / (mean + floor) for cost in costs]

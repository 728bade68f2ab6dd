"""Who plays a role in a slot: a name to its model, and which of several models is chosen.

The choice is Thompson sampling with discounted counts. Rewards are asymmetric and cost counts, as
in ShinkaEvolve (Lange et al. 2025): only gains on the parent are rewarded. They are rewarded by
rank, so that the scale of the objective does not matter.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from numpy.random import Generator

from evolve.archive.credit import Credit
from evolve.records.chat import Request
from evolve.records.results import ModelUse
from evolve.settings.sections import Candidate

# Any gain is worth half a reward; how it ranks among the last ones is worth the other half.
_GAIN = 0.5
_GAINS_KEPT = 128
_DECAY = 0.98
# Slots of a model that say what the next one will cost.
_COSTS_KEPT = 64
# This share of the choices follows the weights alone, so that no model is given up.
_EVEN = 0.1
THRIFT = 0.5
"""How much cost counts when models are chosen: 0 not at all, 1 by reward per cost."""
# A free model counts as if it cost this part of the mean.
_COST_FLOOR = 0.05
# What a summarizer is good for shows only generations later.
_UNREWARDED = frozenset({"summarizer"})


@dataclass(frozen=True, slots=True)
class Part:
    """Who plays a role in a slot, and how.

    Attributes:
        model: Name of the model.
        temperature: Sent when it is set.
        effort: Reasoning effort, sent when it is set.
        max_tokens: Most tokens of a reply, sent when it is set.
    """

    model: str
    temperature: float | None = None
    effort: str = ""
    max_tokens: int | None = None

    def tune(self, request: Request) -> Request:
        """Returns the request as this part asks it."""
        return replace(
            request,
            temperature=self.temperature,
            effort=self.effort,
            max_tokens=self.max_tokens,
        )


class ModelStats:
    """How well models have done in their roles; a fold over the slots of a run."""

    def __init__(self) -> None:
        self._credit = defaultdict[str, Credit](lambda: Credit(decay=_DECAY))
        self._costs = defaultdict[tuple[str, str], deque[tuple[float | None, int]]](
            lambda: deque(maxlen=_COSTS_KEPT)
        )
        self._gains: deque[float] = deque(maxlen=_GAINS_KEPT)

    def record(self, uses: Sequence[ModelUse], gain: float) -> None:
        """Adds a slot.

        Args:
            uses: Its calls in order.
            gain: What its best program gained on its parent, 0 or less for nothing.
        """
        reward = self._rank(gain)
        by_model: dict[tuple[str, str], list[ModelUse]] = {}
        for use in uses:
            by_model.setdefault((use.role, use.model), []).append(use)
        for (role, model), calls in by_model.items():
            self._credit[role].record(model, reward)
            costs = [use.cost_usd for use in calls if use.cost_usd is not None]
            cost_usd = sum(costs) if len(costs) == len(calls) else None
            self._costs[role, model].append((cost_usd, sum(use.tokens for use in calls)))

    def choose(
        self, role: str, candidates: Sequence[Candidate], rng: Generator, *, thrift: float = THRIFT
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
        costs = self._relative_costs(role, candidates)
        values = {
            item.name: item.weight * self._credit[role].sample_rate(item.name, rng) / cost**thrift
            for item, cost in zip(candidates, costs, strict=True)
        }
        return max(values, key=values.__getitem__)

    def _rank(self, gain: float) -> float:
        """Returns the reward of a gain, from 0 for none to 1 for the largest of late."""
        if gain <= 0.0:
            return 0.0
        self._gains.append(gain)
        below = sum(other < gain for other in self._gains)
        equal = sum(other == gain for other in self._gains)
        return _GAIN + (1.0 - _GAIN) * (below + 0.5 * equal) / len(self._gains)

    def _relative_costs(self, role: str, candidates: Sequence[Candidate]) -> list[float]:
        """Returns what a slot costs with each model, in parts of the mean; 1 where unknown.

        Counts money where all prices are known, else tokens.
        """
        slots = [self._costs[role, item.name] for item in candidates]
        is_priced = all(cost is not None for costs in slots for cost, _ in costs)
        means = [
            fmean((cost or 0.0) if is_priced else tokens for cost, tokens in costs)
            if costs
            else None
            for costs in slots
        ]
        known = [mean for mean in means if mean is not None]
        overall = fmean(known) if known else 0.0
        if not overall:
            return [1.0] * len(means)
        floor = _COST_FLOOR * overall
        return [1.0 if mean is None else (mean + floor) / (overall + floor) for mean in means]


def draw_by_weight(candidates: Sequence[Candidate], rng: Generator) -> str:
    """Returns the name of a model drawn with chances that follow the weights."""
    point = rng.random() * sum(candidate.weight for candidate in candidates)
    for candidate in candidates:
        point -= candidate.weight
        if point < 0.0:
            return candidate.name
    return candidates[-1].name

"""Which operator comes next: a rule that learns which ones pay.

Probability matching with decay (Thierens 2005, An adaptive pursuit strategy for allocating
operator probabilities): every operator keeps a floor, the rest of the probability is shared out
by recent reward per use.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from evolve.operators.table import OPERATORS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.random import Generator

# A program better than its parent is what is wanted; one that only fills or improves another
# cell keeps the archive moving.
_REWARD_IMPROVED = 1.0
_REWARD_ACCEPTED = 0.1
_DECAY = 0.97
_FLOOR = 0.2
# Uses that every operator is credited with, so that no operator is judged by one or two.
_PRIOR_USES = 8.0
_PRIOR_REWARD = 0.05


@dataclass(frozen=True, slots=True)
class Tally:
    """How an operator has paid.

    Attributes:
        uses: Attempts made with it.
        improvements: Those that were better than their parent.
        recent_uses: Uses, each counting less with every later use.
        recent_reward: Rewards, each counting less with every later use.
    """

    uses: int = 0
    improvements: int = 0
    recent_uses: float = 0.0
    recent_reward: float = 0.0

    @property
    def quality(self) -> float:
        """Recent reward per use, pulled towards the prior while there are few uses."""
        reward = self.recent_reward + _PRIOR_USES * _PRIOR_REWARD
        return reward / (self.recent_uses + _PRIOR_USES)


@dataclass(frozen=True, slots=True)
class OperatorStats:
    """How all operators have paid; a fold over the attempts of a run.

    Attributes:
        tallies: One for each operator used so far, by name.
    """

    tallies: Mapping[str, Tally] = field(default_factory=dict)

    def record(self, operator: str, *, improved: bool, accepted: bool) -> OperatorStats:
        """Returns the statistics after one more use.

        Args:
            operator: Name of the operator; names of former versions are kept as they are.
            improved: Whether the program was better than its parent.
            accepted: Whether it became an elite.
        """
        tally = self.tallies.get(operator, Tally())
        reward = _REWARD_IMPROVED if improved else _REWARD_ACCEPTED if accepted else 0.0
        tally = replace(
            tally,
            uses=tally.uses + 1,
            improvements=tally.improvements + improved,
            recent_uses=_DECAY * tally.recent_uses + 1.0,
            recent_reward=_DECAY * tally.recent_reward + reward,
        )
        return OperatorStats({**self.tallies, operator: tally})

    def probabilities(self) -> dict[str, float]:
        """Returns the chance of every operator to be chosen next; they add up to 1."""
        qualities = {name: self.tallies.get(name, Tally()).quality for name in OPERATORS}
        total = sum(qualities.values())
        even = _FLOOR / len(OPERATORS)
        return {name: even + (1.0 - _FLOOR) * q / total for name, q in qualities.items()}


def choose_operator(stats: OperatorStats, rng: Generator) -> str:
    """Draws the next operator by how well each has paid."""
    chances = stats.probabilities()
    names = tuple(chances)
    return names[int(rng.choice(len(names), p=list(chances.values())))]

"""One rule of credit: which of several alternatives has paid off of late."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from numpy.random import Generator


class Credit:
    """Discounted counts of uses and rewards, from which choices are drawn; a fold over uses.

    Each count is discounted with every later use of any alternative (Raj & Kalyani 2017, Taming
    non-stationary bandits: A Bayesian approach). The reward rate of an alternative has a beta
    distribution, so that one with few uses is close to the prior.

    Args:
        decay: Factor of all counts at each use, from 0 to 1.
        prior_uses: Uses that each alternative starts with.
        prior_rewards: Rewards that each starts with; fewer than uses.
    """

    def __init__(
        self, *, decay: float, prior_uses: float = 2.0, prior_rewards: float = 1.0
    ) -> None:
        self._decay = decay
        self._prior = prior_uses, prior_rewards
        self._uses: dict[str, float] = {}
        self._rewards: dict[str, float] = {}

    def record(self, name: str, reward: float) -> None:
        """Adds a use of an alternative, with its reward from 0 to 1."""
        for counts in (self._uses, self._rewards):
            for other in counts:
                counts[other] *= self._decay
        self._uses[name] = self._uses.get(name, 0.0) + 1.0
        self._rewards[name] = self._rewards.get(name, 0.0) + reward

    def rate(self, name: str) -> float:
        """Returns the expected reward of a use."""
        uses, rewards = self._counts(name)
        return rewards / uses

    def variance(self, name: str) -> float:
        """Returns the variance of what is believed of the reward rate."""
        uses, rewards = self._counts(name)
        return rewards * (uses - rewards) / (uses * uses * (uses + 1.0))

    def sample_rate(self, name: str, rng: Generator) -> float:
        """Draws a reward rate from what is believed of it, for Thompson sampling."""
        uses, rewards = self._counts(name)
        return float(rng.beta(rewards, uses - rewards))

    def chances(self, names: Iterable[str], *, floor: float) -> Mapping[str, float]:
        """Returns chances in proportion to reward rates, by name; they add up to 1.

        Probability matching (Thierens 2005, An adaptive pursuit strategy for allocating operator
        probabilities).

        Args:
            names: The alternatives.
            floor: Probability that is shared evenly, so that none is given up.
        """
        rates = {name: self.rate(name) for name in names}
        total = sum(rates.values())
        return {
            name: floor / len(rates) + (1.0 - floor) * rate / total for name, rate in rates.items()
        }

    def _counts(self, name: str) -> tuple[float, float]:
        uses, rewards = self._prior
        return uses + self._uses.get(name, 0.0), rewards + self._rewards.get(name, 0.0)
